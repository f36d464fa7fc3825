//! Applies commands to a region.

use bytes::Bytes;
use prost::Message as _;

use crate::codec::raw;
use crate::engine::{Cf, Read, WriteBatch};
use crate::proto::armilla::raft::region_command::Op;
use crate::proto::armilla::raft::region_reply::Outcome;
use crate::proto::armilla::raft::{
    CasReply, Change, ChangePeers, CollectVersions, CommandHeader, CommitMerge, CompareAndSwap, DeleteVersions,
    ForgetAbsorbed, Merges, OutsideRegion, RefuseMerge, RegionCommand, RegionReply, RollBackMerge, SealMerge, Split,
    SplitReply,
};
use crate::raft::frame::{Command, Kind};
use crate::raft::machine::{Absorbs, Applied, ApplyContext, CfRange, Effect, MergeStep, StateMachine};
use crate::types::region::RegionEpoch;
use crate::types::{GroupId, Region, Result, region, version};

use super::{command, marks, members, merge, split, ttl};

/// The state machine of a data region. Except for the descriptor and its merges, all of its state is in the engine.
#[derive(Debug)]
pub struct RegionMachine {
    region: Region,
    merges: Merges,
    /// The newest version of the protocol whose commands are known.
    protocol: u32,
}

/// Why a command was refused.
enum Refusal {
    /// The region's epoch is not the one that the proposer saw.
    EpochNotMatch,
    /// A key is outside the region.
    Outside(Bytes),
    /// The command was decided in another term.
    Stale,
    /// The region is frozen: it may become part of another one.
    Merging,
    /// The command, or a stored value, cannot be decoded or is not supported.
    Refused(String),
}

impl RegionMachine {
    /// Creates the state machine of the region with this descriptor.
    pub fn new(region: Region) -> RegionMachine {
        RegionMachine::of_version(region, version::PROTOCOL)
    }

    /// Creates a state machine that knows no commands that are newer than a version of the protocol.
    pub fn of_version(region: Region, protocol: u32) -> RegionMachine {
        RegionMachine { region, merges: Merges::default(), protocol }
    }

    /// Checks that the epoch and term on which the proposer's decision was based still hold.
    fn check_header(&self, header: &CommandHeader, term: u64) -> Result<(), Refusal> {
        let epoch = region::epoch(&self.region);
        let moved = header.version != epoch.version || (header.conf_ver != 0 && header.conf_ver != epoch.conf_ver);
        if moved && !crate::mutant!("region.stale-epoch-accepted") {
            crate::reach!("region.stale-epoch-refused");
            return Err(Refusal::EpochNotMatch);
        }
        if header.term != 0 && header.term != term {
            return Err(Refusal::Stale);
        }
        let floor = self.merges.marks.map_or(0, |marks| marks.floor);
        if header.oldest_ts != 0 && header.oldest_ts < floor && !crate::mutant!("region.floor-not-at-apply") {
            crate::reach!("region.below-the-floor");
            return Err(Refusal::Stale);
        }
        Ok(())
    }

    fn check_key(&self, key: &Bytes) -> Result<(), Refusal> {
        if region::holds(&self.region, key) { Ok(()) } else { Err(Refusal::Outside(key.clone())) }
    }

    fn check_change(&self, change: &Change) -> Result<Cf, Refusal> {
        self.check_key(&change.key)?;
        if let Some(end) = &change.range_end
            && !region::ends_by(&self.region, end)
        {
            return Err(Refusal::Outside(end.clone()));
        }
        region_cf(change.cf)
    }

    /// Writes all of the changes or, if one is refused, none.
    fn write(&self, mut changes: Vec<Change>, batch: &mut WriteBatch) -> Result<Option<Effect>, Refusal> {
        for change in &changes {
            self.check_change(change)?;
        }
        if crate::mutant!("region.batch-drops-last") && changes.len() > 1 {
            changes.pop();
        }
        let mut effect = None;
        for Change { cf, key, value, range_end } in changes {
            let cf = region_cf(cf)?;
            match (value, range_end) {
                (Some(value), _) => {
                    if Cf::RAW.contains(&cf) && ttl::is_timed(&value) {
                        effect = Some(Effect::WroteExpiring);
                    }
                    batch.put(cf, key, value);
                }
                (None, Some(end)) => {
                    if crate::mutant!("region.delete-range-off-by-one") && !end.is_empty() {
                        batch.delete(cf, end.clone());
                    }
                    batch.delete_range(cf, key, end);
                }
                (None, None) => batch.delete(cf, key),
            }
        }
        Ok(effect)
    }

    /// Runs one command. Returns its reply and its effect on this store.
    fn run(
        &mut self,
        context: ApplyContext,
        command: RegionCommand,
        read: &dyn Read,
        batch: &mut WriteBatch,
    ) -> Result<Result<Applied, Refusal>> {
        let any = matches!(command.op, Some(Op::CommitMerge(_))) && crate::mutant!("region.commit-at-any-epoch");
        if let Err(refusal) = self.check_header(&command.header.unwrap_or_default(), context.term)
            && !any
        {
            return Ok(Err(refusal));
        }
        // What it holds now is what its target takes over.
        let ends_merge = matches!(command.op, Some(Op::SealMerge(_) | Op::RollBackMerge(_)));
        if self.merges.merging.is_some() && !ends_merge && !crate::mutant!("region.merging-applies") {
            crate::reach!("region.command-while-merging");
            return Ok(Err(Refusal::Merging));
        }
        Ok(match command.op {
            None => Err(Refusal::Refused("the command has an operation that this version does not know".into())),
            // The reply of a plain write is the empty message: no bytes, no allocation.
            Some(Op::Write(write)) => {
                self.write(write.changes, batch).map(|effect| Applied { effect, ..Applied::default() })
            }
            Some(Op::Cas(cas)) => match self.check_key(&cas.key) {
                Ok(()) => compare_and_swap(cas, read, batch)?,
                Err(refusal) => Err(refusal),
            },
            Some(Op::Collect(collect)) => {
                match (collect.keys.iter().try_for_each(|key| self.check_key(key)), region_cf(collect.cf)) {
                    (Ok(()), Ok(cf)) => {
                        ttl::collect(cf, collect.keys, collect.now_s, read, batch)?;
                        Ok(Applied::default())
                    }
                    (Err(refusal), _) | (_, Err(refusal)) => Err(refusal),
                }
            }
            Some(Op::CollectVersions(collect)) => self.collect_versions(collect, batch),
            Some(Op::DeleteVersions(delete)) => self.delete_versions(delete, batch),
            Some(Op::Split(split)) => self.split(&split),
            Some(Op::ChangePeers(change)) => self.change_peers(&change),
            Some(op) => self.merge(context, op),
        })
    }

    /// Removes everything that transactions have stored in a part of the region.
    fn delete_versions(&mut self, command: DeleteVersions, batch: &mut WriteBatch) -> Result<Applied, Refusal> {
        let DeleteVersions { start_key, end_key } = command;
        self.check_key(&start_key)?;
        if !region::ends_by(&self.region, &end_key) {
            return Err(Refusal::Outside(end_key));
        }
        for cf in Cf::TXN {
            batch.delete_range(cf, start_key.clone(), end_key.clone());
        }
        let epoch = region::epoch(&self.region);
        self.region.region_epoch = Some(RegionEpoch { version: epoch.version + 1, ..epoch });
        Ok(Applied { reshaped: true, ..Applied::default() })
    }

    /// Raises the region's marks, and removes what nothing can read any more.
    fn collect_versions(&mut self, command: CollectVersions, batch: &mut WriteBatch) -> Result<Applied, Refusal> {
        for change in &command.changes {
            self.check_key(&change.key)?;
        }
        let after = marks::raised(self.merges.marks, &command).map_err(Refusal::Refused)?;
        marks::remove(command.changes, batch).map_err(Refusal::Refused)?;
        let reshaped = after != self.merges.marks;
        self.merges.marks = after;
        Ok(Applied { reshaped, ..Applied::default() })
    }

    /// Makes a step of a merge.
    fn merge(&mut self, context: ApplyContext, op: Op) -> Result<Applied, Refusal> {
        let before = (self.region.clone(), self.merges.clone());
        let mut absorbed = None;
        let after = match op {
            Op::PrepareMerge(prepare) => merge::prepare(&before, &prepare, context),
            Op::SealMerge(seal) => merge::seal(&before, seal),
            Op::RollBackMerge(roll_back) => merge::roll_back(&before, roll_back),
            Op::CommitMerge(commit) => {
                let after = merge::commit(&before, &commit);
                absorbed = commit.source.map(|source| GroupId(source.id));
                after
            }
            Op::RefuseMerge(RefuseMerge {}) => Ok(merge::refuse(&before)),
            Op::ForgetAbsorbed(ForgetAbsorbed { source_id }) => merge::forget(&before, source_id),
            _ => Err("the command makes no step of a merge".to_owned()),
        };
        (self.region, self.merges) = after.map_err(Refusal::Refused)?;
        let reply = RegionReply { outcome: Some(Outcome::Changed(self.region.clone())) };
        Ok(Applied { reply: reply.encode_to_vec().into(), reshaped: true, absorbed, ..Applied::default() })
    }

    /// Returns the command at the start of an entry if it commits a merge that would be made now.
    fn commit_of(&self, term: u64, command: &Command) -> Option<CommitMerge> {
        if command.kind != Kind::Admin {
            return None;
        }
        let RegionCommand { header, op } = RegionCommand::decode(command.bytes.clone()).ok()?;
        let Some(Op::CommitMerge(commit)) = op else { return None };
        let known = version::MERGES <= self.protocol && self.merges.merging.is_none();
        let epoch_fits = self.check_header(&header.unwrap_or_default(), term).is_ok();
        let fits = known && (epoch_fits || crate::mutant!("region.commit-at-any-epoch"));
        let state = (self.region.clone(), self.merges.clone());
        (fits && merge::commit(&state, &commit).is_ok()).then_some(commit)
    }

    /// Changes the region's peers.
    fn change_peers(&mut self, command: &ChangePeers) -> Result<Applied, Refusal> {
        self.region = members::changed(&self.region, command).map_err(Refusal::Refused)?;
        crate::reach!("region.members-changed");
        let reply = RegionReply { outcome: Some(Outcome::Changed(self.region.clone())) };
        Ok(Applied::reply(reply.encode_to_vec()))
    }

    /// Splits the region, which keeps only the last piece.
    fn split(&mut self, command: &Split) -> Result<Applied, Refusal> {
        let mut pieces = split::pieces(&self.region, command).map_err(Refusal::Refused)?;
        let reply = RegionReply { outcome: Some(Outcome::Split(SplitReply { regions: pieces.clone() })) };
        self.region = pieces.pop().expect("a region that is split has pieces");
        crate::reach!("region.split");
        Ok(Applied { reply: reply.encode_to_vec().into(), born: pieces, ..Applied::default() })
    }

    fn refuse(&self, refusal: Refusal) -> Bytes {
        let outcome = match refusal {
            Refusal::EpochNotMatch => Outcome::EpochNotMatch(self.region.clone()),
            Refusal::Outside(key) => Outcome::OutsideRegion(OutsideRegion { key, region: Some(self.region.clone()) }),
            Refusal::Stale => Outcome::Stale(true),
            Refusal::Merging => Outcome::Merging(self.region.id),
            Refusal::Refused(why) => Outcome::Refused(why),
        };
        RegionReply { outcome: Some(outcome) }.encode_to_vec().into()
    }
}

/// Returns the column family with this number, which must be one that holds regions' data.
fn region_cf(number: u32) -> Result<Cf, Refusal> {
    Cf::from_number(number)
        .filter(|cf| cf.of_regions())
        .ok_or_else(|| Refusal::Refused(format!("column family {number} holds no data of regions in this version")))
}

impl StateMachine for RegionMachine {
    fn region(&self) -> &Region {
        &self.region
    }

    fn reads(&self, command: &Command) -> Vec<(Cf, Bytes)> {
        if command.kind == Kind::Plain {
            return Vec::new();
        }
        // Unknown commands and column families are refused without reading the engine.
        let op = RegionCommand::decode(command.bytes.clone()).ok().and_then(|command| command.op);
        let (cf, keys) = match op {
            Some(Op::Cas(cas)) => (cas.cf, vec![cas.key]),
            Some(Op::Collect(collect)) => (collect.cf, collect.keys),
            _ => return Vec::new(),
        };
        let Ok(cf) = region_cf(cf) else { return Vec::new() };
        keys.into_iter().filter(|key| region::holds(&self.region, key)).map(|key| (cf, key)).collect()
    }

    fn apply(
        &mut self,
        context: ApplyContext,
        command: Command,
        read: &dyn Read,
        batch: &mut WriteBatch,
    ) -> Result<Applied> {
        let before = batch.len();
        let outcome = match RegionCommand::decode(command.bytes) {
            // Those that change the group must be alone in their entry: only then is it known what is applied before.
            Ok(RegionCommand { op: Some(op), .. })
                if command::kind(&op).changes_group() && command::kind(&op) != command.kind =>
            {
                Err(Refusal::Refused("a command that changes the group is not of the kind of such commands".into()))
            }
            Ok(RegionCommand { op: Some(op), .. }) if command::since(&op) > self.protocol => {
                Err(Refusal::Refused("the command has an operation that this version does not know".into()))
            }
            Ok(command) => self.run(context, command, read, batch)?,
            Err(error) => Err(Refusal::Refused(format!("the command does not decode: {error}"))),
        };
        Ok(outcome.unwrap_or_else(|refusal| {
            assert_eq!(batch.len(), before, "region {}: a refused command wrote", self.region.id);
            Applied::reply(self.refuse(refusal))
        }))
    }

    fn members_after(&self, term: u64, command: &Command) -> Result<Region, Bytes> {
        let after = || {
            let command = RegionCommand::decode(command.bytes.clone());
            let command = command.map_err(|error| Refusal::Refused(format!("the command does not decode: {error}")))?;
            self.check_header(&command.header.unwrap_or_default(), term)?;
            if self.merges.merging.is_some() {
                return Err(Refusal::Merging);
            }
            match &command.op {
                Some(Op::ChangePeers(change)) => members::changed(&self.region, change).map_err(Refusal::Refused),
                _ => Err(Refusal::Refused("the command changes no peers".into())),
            }
        };
        after().map_err(|refusal| self.refuse(refusal))
    }

    fn leave_joint(&self) -> Command {
        let RegionEpoch { version, conf_ver } = region::epoch(&self.region);
        let header = CommandHeader { version, conf_ver, ..CommandHeader::default() };
        command::encode(header, Op::ChangePeers(ChangePeers::default()))
    }

    fn merges(&self) -> &Merges {
        &self.merges
    }

    fn absorbs(&self, term: u64, command: &Command) -> Option<Absorbs> {
        let commit = self.commit_of(term, command)?;
        let source = GroupId(commit.source?.id);
        Some(Absorbs { source, at: Some((commit.prepared, commit.prepared_term)) })
    }

    fn merge_step(&self, step: &MergeStep) -> Command {
        let RegionEpoch { version, conf_ver } = region::epoch(&self.region);
        let own = CommandHeader { version, conf_ver, ..CommandHeader::default() };
        let prepared = self.merges.merging.map_or(0, |merging| merging.prepared);
        match step {
            MergeStep::Seal => command::encode(own, Op::SealMerge(SealMerge { prepared })),
            MergeStep::RollBack { is_proved } => {
                command::encode(own, Op::RollBackMerge(RollBackMerge { prepared, is_proved: *is_proved }))
            }
            MergeStep::Forget(source) => {
                command::encode(own, Op::ForgetAbsorbed(ForgetAbsorbed { source_id: source.0 }))
            }
            MergeStep::Refuse => command::encode(own, Op::RefuseMerge(RefuseMerge {})),
            MergeStep::Commit => {
                let merging = self.merges.merging.unwrap_or_default();
                let RegionEpoch { version, conf_ver } = merging.target_epoch.unwrap_or_default();
                let header = CommandHeader { version, conf_ver, ..CommandHeader::default() };
                let commit = CommitMerge {
                    source: Some(self.region.clone()),
                    prepared,
                    prepared_term: merging.prepared_term,
                    absorbed: self.merges.absorbed.clone(),
                    marks: self.merges.marks,
                };
                command::encode(header, Op::CommitMerge(commit))
            }
        }
    }

    fn refusal(&self, why: &str) -> Bytes {
        self.refuse(Refusal::Refused(why.to_owned()))
    }

    fn ranges(&self, region: &Region) -> Vec<CfRange> {
        Cf::all_of_regions()
            .map(|cf| CfRange { cf, start: region.start_key.clone(), end: region.end_key.clone() })
            .collect()
    }

    fn reload(&mut self, region: &Region, merges: &Merges, _read: &dyn Read) -> Result<()> {
        assert!(
            self.region.id == 0 || self.region.id == region.id && !region::older(region, &self.region),
            "region {} was given the descriptor of region {} with an older epoch or another id",
            self.region.id,
            region.id
        );
        self.region = region.clone();
        self.merges = merges.clone();
        Ok(())
    }
}

fn compare_and_swap(cas: CompareAndSwap, read: &dyn Read, batch: &mut WriteBatch) -> Result<Result<Applied, Refusal>> {
    let cf = match region_cf(cas.cf) {
        Ok(cf) => cf,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let now_s = if crate::mutant!("region.cas-reads-stale") { 0 } else { cas.now_s };
    let previous = match read.get(cf, &cas.key)?.map(|stored| raw::live(&stored, now_s)).transpose() {
        Ok(live) => live.flatten().map(|(value, _)| value),
        // Every replica holds the same bytes, so every replica refuses.
        Err(error) => return Ok(Err(Refusal::Refused(format!("the key's stored value: {error}")))),
    };
    let succeed = previous == cas.expected || crate::mutant!("region.cas-ignores-expected");
    let timed = cas.stored.as_ref().is_some_and(|stored| ttl::is_timed(stored));
    if succeed {
        match cas.stored {
            Some(stored) => batch.put(cf, cas.key, stored),
            None => batch.delete(cf, cas.key),
        }
    }
    let reply = RegionReply { outcome: Some(Outcome::Cas(CasReply { succeed, previous })) };
    let effect = (succeed && timed).then_some(Effect::WroteExpiring);
    Ok(Ok(Applied { reply: reply.encode_to_vec().into(), effect, ..Applied::default() }))
}
