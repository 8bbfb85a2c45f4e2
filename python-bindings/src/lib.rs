//! scouter-python
