"""Any labelled table as a domain: `dmcm fit`, its measures and its page."""
