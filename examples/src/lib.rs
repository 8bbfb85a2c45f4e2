//! scouter-examples
