//! Commands driven as a driver does.
