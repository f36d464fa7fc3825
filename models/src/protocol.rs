//! What the command line, the tests and the documents know of a model: its name, its bounds, its rules, and how to
//! search it.

use crate::search::{Outcome, Verdict};

/// One protocol, ready to be searched.
#[derive(Debug)]
pub struct Protocol {
    /// The name on the command line.
    pub name: &'static str,
    /// What is modelled, in a line.
    pub about: &'static str,
    /// What bounds the search.
    pub bounds: &'static [Bound],
    /// What tests search: bounds that differ from the quick ones.
    pub cases: &'static [&'static [(&'static str, u8)]],
    /// The rules of the protocol, as what happens without each.
    pub flaws: &'static [FlawInfo],
    /// Searches within the bounds, with the rule of this flaw left out if there is one, up to this many states.
    pub search: fn(&Bounds, Option<&str>, usize) -> Outcome,
}

/// A number that bounds a model.
#[derive(Debug)]
pub struct Bound {
    /// The name on the command line.
    pub name: &'static str,
    /// What it counts.
    pub about: &'static str,
    /// The value that tests use.
    pub quick: u8,
    /// The value of `--large`.
    pub large: u8,
    /// The lowest value that makes sense.
    pub min: u8,
    /// The highest value that the model can represent.
    pub max: u8,
}

/// A rule left out, and what the search finds then.
#[derive(Debug)]
pub struct FlawInfo {
    /// The name on the command line.
    pub name: &'static str,
    /// What the protocol does without the rule.
    pub about: &'static str,
    /// Bounds that differ from the quick ones.
    pub with: &'static [(&'static str, u8)],
    /// The length of the shortest counterexample.
    pub steps: usize,
    /// A part of what the search says.
    pub finds: &'static str,
}

/// The values of a model's bounds.
#[derive(Debug, Clone)]
pub struct Bounds {
    values: Vec<(&'static str, u8)>,
}

impl Bounds {
    /// The bounds that tests use.
    pub fn quick(protocol: &Protocol) -> Bounds {
        Bounds { values: protocol.bounds.iter().map(|bound| (bound.name, bound.quick)).collect() }
    }

    /// The bounds of `--large`.
    pub fn large(protocol: &Protocol) -> Bounds {
        Bounds { values: protocol.bounds.iter().map(|bound| (bound.name, bound.large)).collect() }
    }

    /// The quick bounds but for some.
    pub fn quick_with(protocol: &Protocol, changes: &[(&'static str, u8)]) -> Bounds {
        let mut bounds = Bounds::quick(protocol);
        for (name, value) in changes {
            assert!(bounds.set(name, *value), "{} has no bound `{name}`", protocol.name);
        }
        bounds
    }

    /// Sets a bound; false if the model has none of that name.
    pub fn set(&mut self, name: &str, value: u8) -> bool {
        let found = self.values.iter_mut().find(|(known, _)| *known == name);
        found.map(|(_, old)| *old = value).is_some()
    }

    /// The value of a bound of the model.
    pub fn get(&self, name: &str) -> u8 {
        let found = self.values.iter().find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("the model has no bound `{name}`")).1
    }

    /// All of them, as on the command line.
    pub fn show(&self) -> String {
        self.values.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
    }
}

impl FlawInfo {
    /// Whether the search found what it should; otherwise, what it found.
    ///
    /// # Errors
    /// What is different, in a sentence.
    pub fn judge(&self, outcome: &Outcome) -> Result<(), String> {
        let (Verdict::Wrong(found) | Verdict::Stuck(found)) = &outcome.verdict else {
            return Err(format!("{}: no counterexample in {} states", self.name, outcome.states));
        };
        if found.steps.len() != self.steps || !found.what.contains(self.finds) {
            let (expected, len) = (self.steps, found.steps.len());
            return Err(format!("{}: {len} steps instead of {expected}, or not `{}`\n{found}", self.name, self.finds));
        }
        Ok(())
    }
}

/// Declares the enum `Flaw` of a model and its table `FLAWS`:
/// `Variant "name" [("bound", value)] steps "what is found" = "what happens without the rule";`
#[macro_export]
macro_rules! flaws {
    ($($variant:ident $name:literal $with:tt $steps:literal $finds:literal = $about:literal;)*) => {
        /// The rules that can be left out.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Flaw { $($variant,)* }

        const FLAWS: &[$crate::protocol::FlawInfo] = &[$(
            $crate::protocol::FlawInfo { name: $name, about: $about, with: &$with, steps: $steps, finds: $finds },
        )*];

        impl Flaw {
            fn named(name: &str) -> Flaw {
                match name {
                    $($name => Flaw::$variant,)*
                    _ => panic!("the model has no flaw `{name}`"),
                }
            }
        }
    };
}

/// Asserts that the protocol holds in every case that tests search.
#[cfg(test)]
pub fn assert_holds(protocol: &Protocol) {
    for case in protocol.cases {
        let bounds = Bounds::quick_with(protocol, case);
        let outcome = (protocol.search)(&bounds, None, 20_000_000);
        let name = format!("{} ({})", protocol.name, bounds.show());
        match &outcome.verdict {
            Verdict::Wrong(found) | Verdict::Stuck(found) => panic!("{name}:\n{found}"),
            Verdict::TooMany => panic!("{name}: more than {} states", outcome.states),
            Verdict::Holds => println!("{name}: {} states, depth {}", outcome.states, outcome.depth),
        }
        assert!(outcome.states > 1000, "{name}: {} states are no protocol", outcome.states);
    }
}

/// Asserts that each rule is needed: without it the search finds the counterexample that the table names.
#[cfg(test)]
pub fn assert_every_rule_is_needed(protocol: &Protocol) {
    assert!(!protocol.flaws.is_empty(), "{} has no rules", protocol.name);
    let judge = |flaw: &FlawInfo| {
        let outcome = (protocol.search)(&Bounds::quick_with(protocol, flaw.with), Some(flaw.name), 20_000_000);
        flaw.judge(&outcome).err()
    };
    let failures: Vec<String> = protocol.flaws.iter().filter_map(judge).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
