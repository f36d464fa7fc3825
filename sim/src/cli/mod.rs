//! # cli: the simulator's commands
//!
//! A command starts processes ([`processes`]), each of which runs one seed ([`child`]), and compares their reports.
//!
//! **In** come arguments; **out** go a table or one line per seed, and an exit code. **Never**: a simulated world in
//! the process of a command; only the child makes one.

mod bug;
pub mod child;
pub mod corpus;
pub mod executable;
pub mod meta;
pub mod placement;
mod processes;
pub mod replay;
pub mod run;
mod sources;
pub mod zoo;
