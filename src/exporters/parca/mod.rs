//! The `parca` exporter.
