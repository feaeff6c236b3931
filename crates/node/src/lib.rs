//! The Pollux server: an embeddable library and the pollux binary.
