"""Tables, charts and pages; they read records and know no model."""
