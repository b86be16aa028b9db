//! Where the truth is kept: implementations of [`callboard_actors::ports::Store`].

mod batch;

pub mod postgres;
pub mod sqlite;
