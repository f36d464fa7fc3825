//! The rules of the repository, checked on the sources.
//!
//! **Goal**: rules that a reviewer would have to remember are tests: the imports between modules, the names that a pure
//! module must not use, the places where the simulation cfg may be, the length of files, the essay of each module, and
//! that the documents name every dependency and every command, in the field's terms.
//!
//! **Method**: each rule is a function from (path, text) to findings. It works on a *code view* of the file: comments,
//! strings and `#[cfg(test)]` items blanked out, lines kept. Each rule is first shown a planted violation (`plants`)
//! that it has to detect; a rule that detects nothing fails before the real sources are read.
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
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/wording.rs"]
mod wording;
