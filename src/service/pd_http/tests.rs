//! Goal: PD's documents, field by field. Method: views made by hand, and the texts that PD 8.0 was seen to send.

mod changes;
mod documents;
mod serving;
mod settings;
