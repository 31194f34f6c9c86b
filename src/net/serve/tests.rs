//! Servers on loopback and whoever talks to them.
