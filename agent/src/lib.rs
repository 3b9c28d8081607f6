//! Reads domains, holds recipes, plans, applies, journals, serves.
