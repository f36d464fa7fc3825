//! `armilla ctl gc`: how far back transactional data go, and what holds the safe point back.

use armilla::proto::armilla::pd::{Barrier, OverviewReply, SafePoints};
use armilla::types::Timestamp;
use serde_json::{Value, json};

use super::Ctl;
use super::show::{self, Table, print_json};
use crate::failure::Failure;

/// What can be done about the safe point.
#[derive(clap::Subcommand, Debug)]
pub enum GcCommand {
    /// Keep what can be read at a timestamp, for a while: for a backup, or a long report.
    Hold {
        /// A name, by which it can be released or prolonged.
        name: String,
        /// The timestamp [default: now]
        #[arg(long, value_name = "TS")]
        at: Option<u64>,
        /// For how many seconds.
        #[arg(long = "for", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
    },
    /// Hold the safe point back no longer.
    Release {
        /// The name.
        name: String,
    },
}

/// How many regions that are not clear are named.
const REGIONS_SHOWN: usize = 10;

/// Returns the regions that may still have locks below the safe point, or have not told yet that they have none.
fn not_clear(overview: &OverviewReply, points: &SafePoints) -> Vec<u64> {
    let late = overview.regions.iter().filter(|heard| heard.cleared_below < points.txn);
    late.filter_map(|heard| heard.region.as_ref().map(|region| region.id)).collect()
}

fn time(at: u64) -> String {
    match at {
        0 => "never moved".to_owned(),
        at => format!("{} UTC (timestamp {at})", show::utc(Timestamp(at).physical_ms())),
    }
}

fn left(barrier: &Barrier, wall_ms: u64) -> String {
    match barrier.until_ms {
        0 => "forever".to_owned(),
        until => format!("{} s", until.saturating_sub(wall_ms).div_ceil(1000)),
    }
}

impl Ctl {
    /// Prints the safe points, or holds them back.
    pub(super) async fn gc(&self, command: Option<&GcCommand>) -> Result<(), Failure> {
        match command {
            None => self.show_safe_points().await,
            Some(GcCommand::Hold { name, at, seconds }) => {
                let at = match at {
                    Some(at) => Timestamp(*at),
                    None => self.pd.tso(1).await?,
                };
                self.pd.set_gc_barrier(name, at, *seconds).await?;
                if self.form.json {
                    return print_json(&json!({ "name": name, "timestamp": at.0.to_string(), "seconds": seconds }));
                }
                say!("what can be read at timestamp {at} is kept for {seconds} s");
                Ok(())
            }
            Some(GcCommand::Release { name }) => match self.pd.delete_gc_barrier(name).await? {
                Some(at) if self.form.json => print_json(&json!({ "name": name, "timestamp": at.0.to_string() })),
                Some(at) => {
                    say!("timestamp {at} is held no longer");
                    Ok(())
                }
                None => {
                    Err(Failure::new(format!("nothing is held under the name `{name}`")).hint("see `armilla ctl gc`"))
                }
            },
        }
    }

    async fn show_safe_points(&self) -> Result<(), Failure> {
        let Some(overview) = self.overview().await? else {
            let why = "gc is a call that only Armilla has, and this cluster (TiKV?) does not";
            return Err(Failure::new(why).hint("with TiKV: pd-ctl service-gc-safepoint"));
        };
        let points = overview.safe_points.clone().unwrap_or_default();
        let late = not_clear(&overview, &points);
        let with_old = overview.regions.iter().filter(|heard| heard.has_old_versions).count();
        let barriers: Vec<&Barrier> =
            points.barriers.iter().filter(|one| one.until_ms == 0 || one.until_ms > overview.wall_ms).collect();
        if self.form.json {
            let shown = barriers.iter().map(|one| {
                json!({ "name": one.name, "timestamp": one.at, "until_ms": one.until_ms, "global": one.is_global })
            });
            return print_json(&json!({
                "txn_safe_point": points.txn,
                "collected_safe_point": points.collect,
                "keep_versions_ms": overview.keep_versions_ms,
                "oldest_transaction": overview.oldest_transaction,
                "barriers": shown.collect::<Vec<Value>>(),
                "regions_not_clear": late,
                "regions_with_old_versions": with_old,
            }));
        }
        let kept = match overview.keep_versions_ms {
            0 => "until a client moves the safe point".to_owned(),
            ms => format!("{} s", ms as f64 / 1000.0),
        };
        say!("Transactions and reads may begin at:  {}", time(points.txn));
        say!("Old versions are removed up to:       {}", time(points.collect));
        say!("Versions are kept for:                {kept}");
        if overview.oldest_transaction != 0 {
            say!("The oldest live transaction began at: {}", time(overview.oldest_transaction));
        }
        say!("Regions with old versions:            {with_old} of {}", overview.regions.len());
        if points.txn > points.collect {
            let named: Vec<String> = late.iter().take(REGIONS_SHOWN).map(ToString::to_string).collect();
            let more = if late.len() > REGIONS_SHOWN { ", …" } else { "" };
            match late.len() {
                0 => say!("All regions are clear of older locks: old versions are removed next."),
                count => say!("Not clear of older locks yet:         {count} regions: {}{more}", named.join(", ")),
            }
        }
        if !barriers.is_empty() {
            say!("");
            let mut table = Table::new(&["held by", "at", "for"]);
            for one in barriers {
                table.row(vec![one.name.clone(), time(one.at), left(one, overview.wall_ms)]);
            }
            table.print();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use armilla::proto::armilla::pd::RegionHeartbeat;
    use armilla::types::Region;

    use super::*;

    #[test]
    fn regions_that_have_not_told_are_not_clear() {
        let region = |id, cleared_below| RegionHeartbeat {
            region: Some(Region { id, ..Region::default() }),
            cleared_below,
            ..RegionHeartbeat::default()
        };
        let overview = OverviewReply { regions: vec![region(2, 9), region(3, 0), region(4, 8)], ..Default::default() };
        assert_eq!(not_clear(&overview, &SafePoints { txn: 9, ..SafePoints::default() }), [3, 4]);
    }
}
