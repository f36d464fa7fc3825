//! # fault: the faults of a run
//!
//! ```text
//!   swarm ── Draw ──> Fault { at_ms, for_ms, target, kind } ── a line of the plan's file
//!                        │ at_ms
//!   nemesis ── strike ──>│<── impose, whenever a fault begins or ends: the union of all active faults is in force
//!                        │ at_ms + for_ms
//!             end ──────>│
//! ```
//! Each family of faults has a file with its kinds and their parameters, how the swarm draws them, how they strike,
//! what they impose while they are active, how they end, and how shrinking makes them milder ([`behavior::Behavior`]).
//!
//! **In** come the time, the target and the kind; **out** go changes of the simulated world, and reports to the oracle
//! of pauses. **Never**: a fault that undoes another one, or one that a correct store could not survive.

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
pub mod region;
pub mod repeat;
pub mod settings;
pub mod story;
pub mod target;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use behavior::{Active, Behavior, Hit, Shape};
use context::Context;
use draw::{Class, Draft, Draw};
use force::{Force, Machines};
pub use target::Target;

/// One fault of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Table")]
pub struct Fault {
    /// When it begins, ms after the start of the workload.
    pub at_ms: u64,
    /// How long it lasts, ms; absent if the fault is instantaneous.
    #[serde(skip_serializing_if = "is_zero")]
    pub for_ms: u64,
    /// The node that it strikes, if it strikes a single one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// The kind and its parameters.
    #[serde(flatten)]
    pub kind: Kind,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The kind of a fault, by family.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs)] // each is documented in its file
pub enum Kind {
    Process(process::Kind),
    Disk(disk::Kind),
    Net(net::Kind),
    Clock(clock::Kind),
    Leadership(leadership::Kind),
    Region(region::Kind),
    Repeat(repeat::Kind),
    Settings(settings::Kind),
}

/// Evaluates the same expression for a kind of any family.
macro_rules! of_family {
    ($value:expr, $kind:ident => $body:expr) => {
        match $value {
            Kind::Process($kind) => $body,
            Kind::Disk($kind) => $body,
            Kind::Net($kind) => $body,
            Kind::Clock($kind) => $body,
            Kind::Leadership($kind) => $body,
            Kind::Region($kind) => $body,
            Kind::Repeat($kind) => $body,
            Kind::Settings($kind) => $body,
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

        /// Reads `kind` and its parameters, which are all that remains in the fault's table.
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
            Err(format!("unknown kind of fault `{name}`; known are {}", names.join(", ")))
        }

        /// Returns the classes of all families, in a fixed order.
        fn all_classes() -> Vec<AnyClass> {
            let mut all = Vec::new();
            $(all.extend($module::CLASSES.iter().map(AnyClass::new));)*
            all
        }
    };
}

family!(
    Process: process, Disk: disk, Net: net, Clock: clock, Leadership: leadership, Repeat: repeat, Region: region,
    Settings: settings
);

/// A class of faults of any family.
pub struct AnyClass {
    /// The name, which also seeds the class's own stream of random numbers.
    pub name: &'static str,
    /// The minimum and the maximum number of faults per minute.
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

/// Returns the classes from which the swarm draws.
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
            Some(other) => return Err(format!("a fault's `target` is {other}, not a string")),
        };
        Ok(Fault { at_ms, for_ms, target, kind: parse(table)? })
    }
}

impl Fault {
    /// Creates a fault from a draft, at a time.
    pub fn new(at_ms: u64, draft: Draft<Kind>) -> Fault {
        Fault { at_ms, for_ms: draft.for_ms, target: draft.target, kind: draft.kind }
    }

    /// Returns when the fault ends, ms after the start of the workload.
    pub fn end_ms(&self) -> u64 {
        self.at_ms + self.for_ms
    }

    /// Checks that the fault has exactly the fields that its kind needs, and valid parameters.
    ///
    /// # Errors
    /// The field that is missing or not allowed, or the parameter that is invalid.
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

    /// Strikes the node to which the target was resolved. Returns false if the fault cannot strike now.
    pub fn strike(&self, hit: &mut Hit, context: &mut Context) -> bool {
        of_family!(&self.kind, kind => kind.strike(hit, context))
    }

    /// Adds the effects that the fault has while it is active to `force`.
    pub fn impose(&self, active: Active, machines: &Machines, force: &mut Force) {
        of_family!(&self.kind, kind => kind.impose(active, machines, force));
    }

    /// Returns when the fault's effects change by themselves next, ms after its begin, if they do.
    pub fn changes_at_ms(&self, elapsed_ms: u64) -> Option<u64> {
        of_family!(&self.kind, kind => kind.changes_at_ms(elapsed_ms))
    }

    /// Ends the fault. Returns the nodes to start unless another fault keeps them down.
    pub fn end(&self, node: u64, context: &mut Context) -> Vec<u64> {
        of_family!(&self.kind, kind => kind.end(node, context))
    }

    /// Returns whether the oracle of pauses starts its sums again when the fault strikes.
    pub fn disturbs(&self) -> bool {
        of_family!(&self.kind, kind => kind.disturbs())
    }

    /// Returns the same fault with half of its strength, or `None` if it is already weak.
    pub fn milder(&self) -> Option<Fault> {
        let kind = of_family!(&self.kind, kind => kind.milder().map(Kind::from))?;
        Some(Fault { kind, ..self.clone() })
    }

    /// Returns the same fault for half of its duration, or `None` if it is already short.
    pub fn shorter(&self) -> Option<Fault> {
        (self.for_ms >= 100).then(|| Fault { for_ms: self.for_ms / 2, ..self.clone() })
    }

    /// Returns whether the fault names a node with a number above `highest`.
    pub fn names_node_above(&self, highest: u32) -> bool {
        matches!(self.target, Some(Target::Node(node)) if node > highest)
            || of_family!(&self.kind, kind => kind.names_node_above(highest))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a plan's file defines a fault exactly, and no field of it is ignored.
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
            ("at_ms = 1\nkind = \"crush\"\n", "unknown kind of fault `crush`"),
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
            // Parameters may be missing, but the family must know the name.
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
                let mut draw = Draw { rng: &mut rng, stores: 5, regions: 4, pieces: 4, keys: 80, election_ms: 1000 };
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
