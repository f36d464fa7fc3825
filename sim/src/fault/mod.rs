//! # fault: what goes wrong in a run
//!
//! ```text
//!   swarm ── Draw ──> Fault { at_ms, for_ms, target, kind } ── a line of the plan's file
//!                        │ at_ms
//!   nemesis ── strike ──>│<── impose, whenever a fault begins or ends: the union of the active ones is in force
//!                        │ at_ms + for_ms
//!             end ──────>│
//! ```
//! A family of faults is a file: its kinds with their parameters, how the swarm draws them, how they strike, what is in force
//! meanwhile, how they end, how shrinking makes them milder ([`behavior::Behavior`]).
//!
//! **In** come the time, the target and the kind; **out** go changes of the simulated world, and what the oracle of pauses must
//! know of them. **Never**: a fault that undoes another's, or one that the store could not survive if it did all that it promises.

pub mod behavior;
pub mod clock;
pub mod context;
pub mod disk;
pub mod draw;
pub mod force;
pub mod leadership;
pub mod nemesis;
pub mod net;
pub mod process;
pub mod repeat;
pub mod story;
pub mod target;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use behavior::{Active, Behavior, Hit, Shape};
use context::Context;
use draw::{Class, Draft, Draw};
use force::{Force, Machines};
pub use target::Target;

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Table")]
pub struct Fault {
    /// When it begins, ms after the workload's begin.
    pub at_ms: u64,
    /// How long it lasts, ms; absent if it happens at one moment.
    #[serde(skip_serializing_if = "is_zero")]
    pub for_ms: u64,
    /// Which node it strikes, if it strikes one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// What it does, and the kind's own parameters.
    #[serde(flatten)]
    pub kind: Kind,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What goes wrong, by family.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs)] // each is documented by its file
pub enum Kind {
    Process(process::Kind),
    Disk(disk::Kind),
    Net(net::Kind),
    Clock(clock::Kind),
    Leadership(leadership::Kind),
    Repeat(repeat::Kind),
}

/// Does the same to a kind of any family.
macro_rules! of_family {
    ($value:expr, $kind:ident => $body:expr) => {
        match $value {
            Kind::Process($kind) => $body,
            Kind::Disk($kind) => $body,
            Kind::Net($kind) => $body,
            Kind::Clock($kind) => $body,
            Kind::Leadership($kind) => $body,
            Kind::Repeat($kind) => $body,
        }
    };
}

macro_rules! family {
    ($($variant:ident: $module:ident),*) => {
        $(impl From<$module::Kind> for Kind {
            fn from(kind: $module::Kind) -> Kind {
                Kind::$variant(kind)
            }
        })*

        /// Reads `kind` and its parameters, which are all that is left of a fault's table.
        fn parse(table: Table) -> Result<Kind, String> {
            let name = match table.get("kind") {
                Some(Value::String(name)) => name.clone(),
                _ => return Err("a fault has no `kind`".into()),
            };
            $(if $module::NAMES.contains(&name.as_str()) {
                let kind = $module::Kind::deserialize(table).map_err(|error| format!("{name}: {}", error.message()))?;
                return Ok(Kind::$variant(kind));
            })*
            let names = [$($module::NAMES),*].concat();
            Err(format!("`{name}` is no kind of fault: {}", names.join(", ")))
        }

        /// All classes, in a fixed order.
        fn all_classes() -> Vec<AnyClass> {
            let mut all = Vec::new();
            $(all.extend($module::CLASSES.iter().map(AnyClass::new));)*
            all
        }
    };
}

family!(Process: process, Disk: disk, Net: net, Clock: clock, Leadership: leadership, Repeat: repeat);

/// A class of any family.
pub struct AnyClass {
    /// Seeds the class's own stream of random numbers.
    pub name: &'static str,
    /// How many faults a minute at the least and at the most.
    pub per_minute: (f64, f64),
    make: Make,
}

type Make = Box<dyn Fn(&mut Draw<'_>) -> Draft<Kind>>;

impl AnyClass {
    fn new<K: Into<Kind> + 'static>(class: &'static Class<K>) -> AnyClass
    where
        Kind: From<K>,
    {
        AnyClass { name: class.name, per_minute: class.per_minute, make: Box::new(|draw| (class.make)(draw).into()) }
    }

    /// Draws one fault.
    pub fn make(&self, draw: &mut Draw<'_>) -> Draft<Kind> {
        (self.make)(draw)
    }
}

/// What the swarm draws from.
pub fn classes() -> Vec<AnyClass> {
    all_classes()
}

impl TryFrom<Table> for Fault {
    type Error = String;
    fn try_from(mut table: Table) -> Result<Fault, String> {
        let number = |value: Option<Value>, name: &str| match value {
            None => Ok(None),
            Some(value) => value
                .as_integer()
                .and_then(|number| u64::try_from(number).ok())
                .map(Some)
                .ok_or(format!("a fault's `{name}` is {value}, not a number of milliseconds")),
        };
        let at_ms = number(table.remove("at_ms"), "at_ms")?.ok_or("a fault has no `at_ms`")?;
        let for_ms = number(table.remove("for_ms"), "for_ms")?.unwrap_or(0);
        let target = match table.remove("target") {
            None => None,
            Some(Value::String(text)) => Some(Target::try_from(text)?),
            Some(other) => return Err(format!("a fault's `target` is {other}, not a text")),
        };
        Ok(Fault { at_ms, for_ms, target, kind: parse(table)? })
    }
}

impl Fault {
    /// A drafted fault at a time.
    pub fn new(at_ms: u64, draft: Draft<Kind>) -> Fault {
        Fault { at_ms, for_ms: draft.for_ms, target: draft.target, kind: draft.kind }
    }

    /// When it ends, ms after the workload's begin.
    pub fn end_ms(&self) -> u64 {
        self.at_ms + self.for_ms
    }

    /// Whether the fields are those that the kind has.
    ///
    /// # Errors
    /// Which one is missing or too many.
    pub fn validate(&self) -> Result<(), String> {
        let Shape { target, lasts } = of_family!(&self.kind, kind => kind.shape());
        let needs = |has: bool, needed: bool, name: &str| match (has, needed) {
            (false, true) => Err(format!("the fault at {} ms has no `{name}`", self.at_ms)),
            (true, false) => Err(format!("the fault at {} ms must not have `{name}`", self.at_ms)),
            _ => Ok(()),
        };
        needs(self.target.is_some(), target, "target")?;
        needs(self.for_ms > 0, lasts, "for_ms")?;
        of_family!(&self.kind, kind => kind.check()).map_err(|why| format!("the fault at {} ms: {why}", self.at_ms))
    }

    /// Strikes `node`, which its target was resolved to. Returns false if it cannot now.
    pub fn strike(&self, hit: &mut Hit, context: &mut Context) -> bool {
        of_family!(&self.kind, kind => kind.strike(hit, context))
    }

    /// Adds what it does while it is active.
    pub fn impose(&self, active: Active, machines: &Machines, force: &mut Force) {
        of_family!(&self.kind, kind => kind.impose(active, machines, force));
    }

    /// When what it does changes by itself next, ms after its begin.
    pub fn changes_at_ms(&self, elapsed_ms: u64) -> Option<u64> {
        of_family!(&self.kind, kind => kind.changes_at_ms(elapsed_ms))
    }

    /// Ends it; returns the nodes to start, unless another fault keeps them down.
    pub fn end(&self, node: u64, context: &mut Context) -> Vec<u64> {
        of_family!(&self.kind, kind => kind.end(node, context))
    }

    /// Whether the oracle of pauses begins its sums anew when it strikes.
    pub fn disturbs(&self) -> bool {
        of_family!(&self.kind, kind => kind.disturbs())
    }

    /// The same with half of its strength, or nothing if it is weak already.
    pub fn milder(&self) -> Option<Fault> {
        let kind = of_family!(&self.kind, kind => kind.milder().map(Kind::from))?;
        Some(Fault { kind, ..self.clone() })
    }

    /// The same for half as long, or nothing if it is short already.
    pub fn shorter(&self) -> Option<Fault> {
        (self.for_ms >= 100).then(|| Fault { for_ms: self.for_ms / 2, ..self.clone() })
    }

    /// Whether it names a node with a number above `highest`.
    pub fn names_node_above(&self, highest: u32) -> bool {
        matches!(self.target, Some(Target::Node(node)) if node > highest)
            || of_family!(&self.kind, kind => kind.names_node_above(highest))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a plan's file says exactly what a fault is, and nothing in it is overlooked.
    use super::*;

    fn read(text: &str) -> Result<Fault, String> {
        let fault: Fault = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        fault.validate().map(|()| fault)
    }

    #[test]
    fn a_fault_survives_its_file() {
        let text = "at_ms = 5\nfor_ms = 700\ntarget = \"leader-2\"\nkind = \"one-way\"\ndeaf = true\n";
        let fault = read(text).unwrap();
        assert_eq!(fault.kind, Kind::Net(net::Kind::OneWay { deaf: true }));
        assert_eq!(toml::to_string(&fault).unwrap(), text);
        let text = "at_ms = 5\nkind = \"transfer-pd\"\nto = 3\n";
        assert_eq!(toml::to_string(&read(text).unwrap()).unwrap(), text);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (text, says) in [
            ("at_ms = 1\nkind = \"crash\"\nfor_ms = 9\ntarget = \"node-1\"\nnode = 2\n", "unknown field `node`"),
            ("at_ms = 1\nkind = \"ring\"\nfor_ms = 9\ndeaf = true\n", "unknown field `deaf`"),
            ("at_ms = 1\nkind = \"crush\"\n", "`crush` is no kind of fault"),
            ("at_ms = 1\nkind = \"crash\"\ntarget = \"node-1\"\n", "has no `for_ms`"),
            ("at_ms = 1\nkind = \"crash\"\nfor_ms = 9\n", "has no `target`"),
            ("at_ms = 1\nkind = \"reset\"\nfor_ms = 9\ntarget = \"node-1\"\n", "must not have `for_ms`"),
            ("at_ms = 1\nkind = \"crash\"\nfor_ms = 9\ntarget = \"node-x\"\n", "`node-x` is not"),
            ("kind = \"ring\"\nfor_ms = 9\n", "has no `at_ms`"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn every_name_is_a_kind() {
        let names = [process::NAMES, disk::NAMES, net::NAMES, clock::NAMES, leadership::NAMES, repeat::NAMES].concat();
        for name in names {
            let table = Table::from_iter([("kind".to_owned(), Value::from(name))]);
            // With or without parameters: the family knows the word.
            if let Err(error) = parse(table) {
                assert!(error.contains("missing field"), "{name}: {error}");
            }
        }
    }

    #[test]
    fn milder_faults_come_to_an_end() {
        let mut rng = armilla::rt::rng::Rng::new(3);
        for class in classes() {
            for _ in 0..50 {
                let mut draw = Draw { rng: &mut rng, stores: 5, regions: 4, election_ms: 1000 };
                let mut fault = Fault::new(0, class.make(&mut draw));
                fault.validate().unwrap_or_else(|why| panic!("{}: {why}", class.name));
                let mut halvings = 0;
                while let Some(milder) = fault.milder().or_else(|| fault.shorter()) {
                    fault = milder;
                    halvings += 1;
                }
                assert!(halvings < 40, "{}", class.name);
            }
        }
    }
}
