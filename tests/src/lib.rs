//! Black-box tests of Pollux live in this crate's `tests` folder.
