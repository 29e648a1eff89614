//! What the tests share.

pub mod nested;
