"""The audit of a cohort: tables, confounds, findings."""
