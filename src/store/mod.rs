//! Where the truth is kept: implementations of [`callboard_actors::ports::Store`].

mod batch;
mod parts;

pub mod postgres;
pub mod sqlite;
