//! The handlers of requests, by topic.

pub mod events;
pub mod services;
pub mod state;
