//! Where the truth is kept: implementations of [`callboard_actors::ports::Store`].

mod batch;
mod paging;
mod parts;
mod search;
mod slots;
mod user_spans;

pub mod postgres;
pub mod sqlite;
