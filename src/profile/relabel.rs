//! Prometheus' relabelling, for targets and for profiles.
