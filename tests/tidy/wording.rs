//! Invented words, each with the field's standard term.

use super::code::words;
use super::report::{Findings, report};
use super::source::{root, sources};

/// The words, and what to write instead, in sources (comments, names and texts) and documents.
const WORDS: &[(&str, &str)] = &[
    ("letters_max", "batch_messages_max"),
    ("mailbox", "message queue"),
    ("PATIENCE", "a name that ends in TIMEOUT"),
    ("parcel", "packet"),
    ("parcels", "packets"),
    ("Parcel", "Packet"),
    ("border", "boundary, split key"),
    ("borders", "boundaries, split keys"),
    ("SimHome", "SimStorage"),
    ("EngineHome", "EngineStorage"),
    ("PdFront", "PdProxy"),
    ("TikvFront", "BoundedTikv"),
    ("Underway", "QueryGuard"),
    ("ghost time", "true time"),
    ("ends to exist", "expires"),
    ("Borders", "Boundaries"),
    ("Teller", "LogLimit"),
    ("Stranger", "ForeignNodes"),
    ("obey", "handle_reply"),
    ("so many", "this many, N"),
    ("whoever", "the caller, the node that"),
    ("somebody", "a node, a client"),
    ("for ever", "forever"),
    ("stands still", "is suspended, stops"),
    ("is at hand", "is available"),
    ("ends never", "never returns"),
    ("worked out anew", "recomputed"),
    ("all is well", "healthy"),
    ("in its turn", "in turn"),
];

/// Files in which a word has its usual meaning.
const MEANT: &[(&str, &str)] = &[("tests/tidy/wording.rs", "the list itself")];

fn invented(path: &str, text: &str) -> Findings {
    let mut findings = Findings::new();
    for (word, instead) in WORDS {
        for (line, _) in words(text, word) {
            findings.push(format!("{path}:{line}: `{word}`: write {instead}"));
        }
    }
    findings
}

#[test]
fn words_are_those_of_the_field() {
    assert_eq!(invented("a.rs", "// a parcel\nlet parcels = 1;\n").len(), 2);
    assert_eq!(invented("a.md", "recorded_parcel and borderline\n").len(), 0, "parts of other words");

    let mut findings = Findings::new();
    for source in sources(&["src", "sim/src", "arch/src", "check/src", "models/src", "tests", "benches"]) {
        if !MEANT.iter().any(|(file, _)| *file == source.path) {
            findings.extend(invented(&source.path, &source.text));
        }
    }
    let folders = ["", "docs", "src/docs"];
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(root().join(folder)).expect("a readable folder"));
    for file in files.map(|file| file.expect("a readable folder").path()) {
        // The change log uses names of its time.
        let is_text = file.extension().is_some_and(|extension| extension == "md") && !file.ends_with("CHANGELOG.md");
        if is_text {
            let path = file.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
            findings.extend(invented(&path, &std::fs::read_to_string(&file).expect("a readable document")));
        }
    }
    report("words", findings);
}
