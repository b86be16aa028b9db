//! Where the truth is kept: implementations of [`callboard_actors::ports::Store`].

pub mod sqlite;
