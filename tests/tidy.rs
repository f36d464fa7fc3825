//! The law of the house, read from the sources.
//!
//! **Goal**: what a reviewer would have to remember is a test: who may import whom, what a pure room must not name, where the
//! simulation cfg may stand, how long a file may be, how a room introduces itself, and that the documents name every
//! dependency and every command, in words that the field uses.
//!
//! **Method**: each rule is a function from (path, text) to findings. It looks at a *code view* of the file: comments, strings
//! and `#[cfg(test)]` items blanked out, lines kept. Each rule is first shown a planted offence (`plants`) that it has to
//! catch; a rule that catches nothing fails before the real sources are read.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests of the real world")]

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/law.rs"]
mod law;
#[path = "tidy/readme.rs"]
mod readme;
#[path = "tidy/report.rs"]
mod report;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/wording.rs"]
mod wording;
