//! A kernel file into guest memory, the first VP's state, and the ACPI tables.
