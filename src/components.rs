//! The only list of component types.
