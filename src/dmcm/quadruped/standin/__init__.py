"""A stand-in for a real robot: another engine, other contacts, motors and sensors than training had."""
