"""Reports: what a page says of a patient as data, the pages rendered from it, and the report of a whole cohort."""
