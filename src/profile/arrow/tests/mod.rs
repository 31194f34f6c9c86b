mod bodies;
mod fixtures;
mod hostile;
mod meaning;

/// More than any message of tests has.
const MAX: u64 = 1 << 26;
