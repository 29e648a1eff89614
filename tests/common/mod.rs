//! Helpers that the tests share.

pub mod need;
pub mod nested;
pub mod patience;
pub mod stock;
