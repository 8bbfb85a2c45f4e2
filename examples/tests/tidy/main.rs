//! The repository's rules, as tests: a rule that nothing checks decays.
//!
//! CONTRIBUTING.md says why each rule is there. A rule that gets in the way of better code is changed here, with the reason in the commit.

mod dependencies;
mod documents;
mod sources;
mod tree;
