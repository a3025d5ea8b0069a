//! The trust rules, held against those who would break them.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod attacks;
mod beside;
mod certificates;
mod fleet;
mod forgery;
mod learning;
mod pending;
mod sizes;
mod stolen;
mod vectors;
