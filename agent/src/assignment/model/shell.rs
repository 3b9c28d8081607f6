//! The caller of `next` as a model: takes each step that `assign` takes, with every possible outcome.
//!
//! Devices of one request do not affect each other, so their writes are taken in order; the requests of different
//! owners are interleaved in every way. The records of one request are written one after another.

use super::world::*;
use crate::assignment::{Action, Claim, Event, Owner, Phase, Step};

/// The parameters of a search.
#[derive(Clone, Copy)]
pub(super) struct Model {
    pub(super) next: Next,
    /// A seeded bug: a claim is not written before the bind.
    pub(super) forgets_claim: bool,
    pub(super) wants: [&'static [u8]; 2],
    /// Companions first, the device itself last.
    pub(super) admin: &'static [u8],
}

pub(super) type Found = Result<Vec<World>, String>;

impl Model {
    /// All possible next states.
    pub(super) fn steps(&self, w: &World) -> Found {
        let mut all = self.environment(w);
        if w.alive {
            for who in 0..OWNERS {
                match w.work[who] {
                    Some(work) => all.extend(self.go_on(w, who, work)?),
                    None => all.extend(self.begin(w, who)),
                }
            }
        } else {
            all.push(restart(w));
        }
        Ok(all)
    }

    /// One step without a fault; `None` if nothing is left to do. `libvirt`: its answer is available.
    pub(super) fn fair(&self, w: &World, libvirt: bool) -> Result<Option<World>, String> {
        let calm = World {
            faults: 0,
            crashes: 0,
            removals: 0,
            requests: [0; OWNERS],
            ..w.clone()
        };
        if let Some(device) = (0..DEVICES).find(|d| calm.devices[*d].stuck.is_some()) {
            return Ok(Some(end_write(&calm, device)));
        }
        if !calm.alive {
            return Ok(Some(restart(&calm)));
        }
        for who in 0..OWNERS {
            let found = match calm.work[who] {
                Some(work) => self.go_on(&calm, who, work)?,
                None if calm.retry[who] => self.retry(&calm, who),
                None if libvirt => self.missed_end(&calm, who),
                None => Vec::new(),
            };
            if let Some(first) = found.into_iter().next() {
                return Ok(Some(first));
            }
        }
        Ok(None)
    }

    fn environment(&self, w: &World) -> Vec<World> {
        let mut all = Vec::new();
        for device in 0..DEVICES {
            if w.devices[device].stuck.is_some() {
                all.push(end_write(w, device));
            }
            if w.removals > 0 && w.devices[device].now.0 != 0 && !w.devices[device].gone {
                let mut next = w.clone();
                next.removals -= 1;
                next.devices[device] = Device {
                    gone: true,
                    ..Device::default()
                };
                all.push(next);
            }
        }
        for domain in (0..2).filter(|d| w.guests[*d] == Guest::Running) {
            let mut next = w.clone();
            next.guests[domain] = Guest::Off;
            next.ended[domain] = w.alive;
            for device in self.wants[domain] {
                next.devices[usize::from(*device)].used = false;
            }
            all.push(next);
        }
        if w.alive && w.crashes > 0 && w.work.iter().any(Option::is_some) {
            all.push(crash(w));
        }
        all
    }

    fn begin(&self, w: &World, who: usize) -> Vec<World> {
        let mut all = Vec::new();
        all.extend(self.missed_end(w, who));
        if w.retry[who] {
            all.extend(self.retry(w, who));
        }
        if w.requests[who] == 0 {
            return all;
        }
        let mut asked = w.clone();
        asked.requests[who] -= 1;
        if who == ADMIN {
            let leader = self.admin[self.admin.len() - 1];
            all.extend(match w.disk[ADMIN][usize::from(leader)] {
                None => self.admin_next(with(&asked, who, work(Kind::Take, &[], self.admin))),
                Some(_) => {
                    let order: Vec<u8> = self.admin.iter().rev().copied().collect();
                    self.admin_next(with(&asked, who, work(Kind::GiveBack, &[], &order)))
                }
            });
        } else if w.guests[who] == Guest::Off && !w.ended[who] {
            asked.guests[who] = Guest::Starting;
            let incomplete =
                |line: &Line| [Phase::Binding, Phase::Releasing].contains(&line.phase());
            let is_left = w.read(who).iter().flatten().any(incomplete);
            let was_orphan = std::mem::take(&mut asked.orphans[who]);
            all.extend(match was_orphan && is_left {
                true => self.release(&asked, who, Kind::Resume, &Event::Resumed),
                false => self.claim(&asked, who),
            });
        }
        all
    }

    /// The hook call of a guest's end, or libvirt's answer that the guest does not run.
    fn missed_end(&self, w: &World, who: usize) -> Vec<World> {
        let is_due =
            who != ADMIN && w.guests[who] == Guest::Off && (w.ended[who] || w.orphans[who]);
        if !is_due {
            return Vec::new();
        }
        let mut heard = w.clone();
        (heard.ended[who], heard.orphans[who]) = (false, false);
        self.release(&heard, who, Kind::Release, &Event::Released)
    }

    fn retry(&self, w: &World, who: usize) -> Vec<World> {
        let mut again = w.clone();
        again.retry[who] = false;
        match who {
            ADMIN => {
                let order: Vec<u8> = (0..DEVICES as u8).collect();
                let begun = with(&again, who, work(Kind::Retry, &[], &order));
                self.admin_next(begun)
            }
            _ => self.release(&again, who, Kind::Retry, &Event::Resumed),
        }
    }

    fn step(&self, line: Option<Line>, event: &Event) -> (Option<Line>, Step) {
        let record = line.map(Line::record);
        let step = (self.next)(record.as_ref(), event);
        (step.record.as_ref().map(Line::of), step)
    }

    fn release(&self, w: &World, who: usize, kind: Kind, event: &Event) -> Vec<World> {
        let old = w.read(who);
        let mut work = work(kind, &old, &[]);
        for device in 0..DEVICES {
            let old = old[device];
            let (line, step) = self.step(old, event);
            work.records[device] = line;
            if let (Some(Action::Restore(way)), Some(goal)) =
                (step.action(), line.and_then(|line| line.before))
            {
                work.parts[device] = acting(w, device, false, goal, way.certain);
            }
        }
        // The restore happens even if this write fails: a fault here equals a state with less on record.
        let written = written_each(w, who, work.records).into_iter();
        let go_on = written.filter_map(|(next, written)| match written {
            Written::Done => Some(with(&next, who, work)),
            Written::Failed => None,
            Written::Died => Some(next),
        });
        go_on.collect()
    }

    fn claim(&self, w: &World, who: usize) -> Vec<World> {
        let refused = |w: &World| {
            let mut next = w.clone();
            (next.guests[who], next.ended[who], next.work[who]) = (Guest::Off, true, None);
            next
        };
        let known = w.read(who);
        let mut work = work(Kind::Bind, &known, &[]);
        for device in self.wants[who].iter().map(|device| usize::from(*device)) {
            let busy = w.work[ADMIN].is_some() && self.admin.contains(&(device as u8));
            let old = known[device];
            let claim = Claim {
                owner: Owner::Domain,
                target: driver(VARIANT),
                now: before(
                    old.and_then(|old| old.before)
                        .unwrap_or(w.devices[device].now),
                ),
                is_taken: w.disk[1 - who][device].is_some(),
                lender: w.disk[ADMIN][device].map(|line| line.stored().phase()),
            };
            let (line, step) = self.step(old, &Event::Claim(claim));
            if busy || w.devices[device].gone || step.action() != Some(Action::Bind) {
                return vec![refused(w)];
            }
            work.records[device] = line;
            work.parts[device] = acting(w, device, true, (VARIANT, VARIANT), false);
        }
        let claims = match self.forgets_claim {
            true => w.disk[who],
            false => work.records,
        };
        let written = written_each(w, who, claims);
        // The records written so far are removed again; if that fails as well, it is retried.
        let go_on = |(mut next, written): (World, Written)| match written {
            Written::Done => with(&next, who, work),
            Written::Failed => {
                (next.orphans[who], next.retry[who]) = (true, true);
                refused(&next)
            }
            Written::Died => next,
        };
        written.into_iter().map(go_on).collect()
    }

    fn go_on(&self, w: &World, who: usize, work: Work) -> Found {
        let is_acting = |part: &Part| matches!(part, Part::Acting { .. });
        if let Some(device) = work.parts.iter().position(is_acting) {
            return self.act(w, who, device);
        }
        Ok(match work.kind {
            Kind::Bind => self.bound(w, who, work),
            Kind::Take | Kind::Cancel | Kind::GiveBack => self.admin_ended(w, work),
            Kind::Retry if who == ADMIN => self.admin_ended(w, work),
            Kind::Resume | Kind::Release | Kind::Retry | Kind::PutBack => {
                self.restored(w, who, work)
            }
        })
    }

    fn bound(&self, w: &World, who: usize, mut work: Work) -> Vec<World> {
        let is_done =
            |part: &Part| !matches!(part, Part::Ended { result, .. } if *result != Ended::Done);
        if !work.parts.iter().all(is_done) {
            return vec![self.restore_drivers(w, who, work)];
        }
        let claimed = work;
        for device in self.wants[who].iter().map(|device| usize::from(*device)) {
            work.records[device] = self.step(work.records[device], &Event::Bound).0;
        }
        let written = written_each(w, who, work.records);
        let go_on = |(mut next, written): (World, Written)| {
            match written {
                Written::Done => {}
                Written::Failed => return self.restore_drivers(&next, who, claimed),
                Written::Died => return next,
            }
            (next.guests[who], next.work[who]) = (Guest::Running, None);
            for device in self.wants[who].iter().map(|device| usize::from(*device)) {
                next.devices[device].used = !next.devices[device].gone;
            }
            next
        };
        written.into_iter().map(go_on).collect()
    }

    fn restore_drivers(&self, w: &World, who: usize, mut work: Work) -> World {
        work.kind = Kind::PutBack;
        for device in 0..DEVICES {
            let Part::Ended { result, .. } = work.parts[device] else {
                continue;
            };
            let event = match result {
                Ended::Done => Event::Cancelled,
                result => Event::NotBound {
                    lasting: result == Ended::Hung,
                },
            };
            let (line, step) = self.step(work.records[device], &event);
            work.records[device] = line;
            work.parts[device] = Part::Idle;
            if let (Some(Action::Restore(way)), Some(goal)) =
                (step.action(), line.and_then(|line| line.before))
            {
                work.parts[device] = acting(w, device, false, goal, way.certain);
            }
        }
        with(w, who, work)
    }

    /// The end of a release or of a failed bind: writes what is left.
    fn restored(&self, w: &World, who: usize, mut work: Work) -> Vec<World> {
        let (mut retry, mut failed) = (false, false);
        for device in 0..DEVICES {
            let Part::Ended { result, .. } = work.parts[device] else {
                continue;
            };
            let is_back =
                work.records[device].and_then(|line| line.before) == Some(w.devices[device].now);
            let event = match (work.kind, result) {
                (_, Ended::Done) => Event::Restored,
                (Kind::PutBack, Ended::Undone | Ended::Astray) if is_back => Event::Restored,
                (Kind::PutBack, _) => Event::NotRestored { lasting: true },
                (_, result) => Event::NotRestored {
                    lasting: result != Ended::Undone,
                },
            };
            let (line, step) = self.step(work.records[device], &event);
            retry |= step.action() == Some(Action::Retry);
            failed |= event != Event::Restored;
            work.records[device] = line;
        }
        let written = written_each(w, who, work.records);
        let go_on = |(mut next, written): (World, Written)| {
            if written == Written::Died {
                return vec![next];
            }
            let is_written = written == Written::Done;
            next.work[who] = None;
            next.retry[who] |= retry || !is_written;
            next.orphans[who] |= !is_written || work.records.iter().any(Option::is_some);
            match work.kind {
                Kind::Resume if is_written && !failed => {
                    next.orphans[who] = false;
                    self.claim(&next, who)
                }
                Kind::Resume | Kind::PutBack => {
                    (next.guests[who], next.ended[who]) = (Guest::Off, true);
                    vec![next]
                }
                _ => vec![next],
            }
        };
        written.into_iter().flat_map(go_on).collect()
    }

    /// The administrator's next device.
    fn admin_next(&self, w: World) -> Vec<World> {
        let Some(mut work) = w.work[ADMIN] else {
            return vec![w];
        };
        let Some(device) = work.queue[0].map(usize::from) else {
            return vec![without(&w, ADMIN)];
        };
        let now = w.devices[device].now;
        let old = w.disk[ADMIN][device].map(Line::stored);
        let is_held = w.disk[..ADMIN]
            .iter()
            .any(|records| records[device].is_some());
        let is_unsettled = old.is_some_and(|line| line.phase() != Phase::Bound);
        let event = match work.kind {
            Kind::Take => Event::Claim(Claim {
                owner: Owner::Admin,
                target: driver(VFIO),
                now: before(now),
                is_taken: is_held,
                lender: None,
            }),
            Kind::Cancel => Event::Cancelled,
            Kind::Retry if is_unsettled => Event::Resumed,
            Kind::Retry if !self.is_stray(&w, device) => return self.admin_skip(w, work),
            _ => Event::Released,
        };
        let known = match work.kind {
            Kind::Cancel => work.records[device],
            _ => old,
        };
        if work.kind != Kind::Take && (known.is_none() || is_held) {
            return self.admin_skip(w, work);
        }
        let (line, step) = self.step(known, &event);
        let (is_bind, goal, certain) = match step.action() {
            Some(Action::Bind) if !w.devices[device].gone => (true, (VFIO, VFIO), false),
            Some(Action::Undo) => (false, work.found[device], false),
            Some(Action::Restore(way)) => {
                let goal = line.and_then(|line| line.before);
                (false, goal.unwrap_or(now), way.certain)
            }
            _ => return self.admin_failed(w, work),
        };
        if is_bind {
            work.found[device] = now;
        }
        work.records[device] = line;
        work.parts[device] = acting(&w, device, is_bind, goal, certain);
        let written = written(&w, |next| {
            if !(self.forgets_claim && is_bind) {
                next.disk[ADMIN][device] = line.map(Line::stored);
            }
        });
        let go_on = |(mut next, is_written): (World, bool)| match is_written {
            true => vec![with(&next, ADMIN, work)],
            false => {
                next.retry[ADMIN] = true;
                work_failed(self, next)
            }
        };
        written.into_iter().flat_map(go_on).collect()
    }

    fn admin_ended(&self, w: &World, mut work: Work) -> Vec<World> {
        let ended = work.parts.iter().position(|part| *part != Part::Idle);
        let Some(device) = ended else {
            return self.admin_next(w.clone());
        };
        let Part::Ended { is_bind, result } = work.parts[device] else {
            return Vec::new();
        };
        let lasting = matches!(result, Ended::Astray | Ended::Hung);
        let event = match (is_bind, result) {
            (true, Ended::Done) => Event::Bound,
            (true, _) => Event::NotBound { lasting },
            (false, Ended::Done) => Event::Restored,
            (false, _) => Event::NotRestored {
                lasting: lasting || work.kind == Kind::Cancel,
            },
        };
        let (line, step) = self.step(work.records[device], &event);
        work.records[device] = line;
        work.parts[device] = Part::Idle;
        let is_bound = event == Event::Bound;
        let written = written(w, |next| next.disk[ADMIN][device] = line.map(Line::stored));
        let go_on = |(mut next, is_written): (World, bool)| {
            next.retry[ADMIN] |= !is_written || step.action() == Some(Action::Retry);
            let mut work = work;
            if is_bound && is_written {
                work.taken |= 1 << device;
                return self.admin_skip(next, work);
            }
            match is_bind {
                true => self.admin_failed(next, work),
                false => self.admin_skip(next, work),
            }
        };
        written.into_iter().flat_map(go_on).collect()
    }

    fn admin_skip(&self, w: World, mut work: Work) -> Vec<World> {
        work.queue.rotate_left(1);
        work.queue[DEVICES - 1] = None;
        self.admin_next(with(&w, ADMIN, work))
    }

    /// A bind has failed: undoes the earlier binds, the last one first.
    fn admin_failed(&self, w: World, mut work: Work) -> Vec<World> {
        if work.kind != Kind::Take {
            return self.admin_skip(w, work);
        }
        work.kind = Kind::Cancel;
        let taken = (0..DEVICES as u8).rev();
        let taken: Vec<u8> = taken
            .filter(|device| work.taken & 1 << device != 0)
            .collect();
        work.queue = queue(&taken);
        self.admin_next(with(&w, ADMIN, work))
    }

    /// A companion of a device that is not bound.
    fn is_stray(&self, w: &World, device: usize) -> bool {
        let leader = usize::from(self.admin[self.admin.len() - 1]);
        let is_companion = device != leader && self.admin.contains(&(device as u8));
        is_companion
            && match w.disk[ADMIN][leader] {
                Some(line) => line.phase() != Phase::Bound,
                None => ![VARIANT, VFIO].contains(&w.devices[leader].now.0),
            }
    }

    /// One write of an action, with every outcome.
    fn act(&self, w: &World, who: usize, device: usize) -> Found {
        let mut work = w.work[who].expect("it is in progress");
        let Part::Acting {
            is_bind,
            from,
            goal,
            certain,
            undoing,
            hung,
        } = work.parts[device]
        else {
            return Ok(Vec::new());
        };
        let end = |w: &World, mut work: Work, result| {
            work.parts[device] = Part::Ended { is_bind, result };
            with(w, who, work)
        };
        let found = &w.devices[device];
        if found.gone {
            let result = if is_bind { Ended::Astray } else { Ended::Done };
            return Ok(vec![end(w, work, result)]);
        }
        if certain && found.stuck.is_some() {
            return Ok(vec![end(w, work, Ended::Hung)]);
        }
        let Some(write) = found.write_to(if undoing { from } else { goal }, is_bind && !undoing)
        else {
            let result = match (undoing, hung) {
                (false, _) => Ended::Done,
                (true, false) => Ended::Undone,
                (true, true) => Ended::Hung,
            };
            return Ok(vec![end(w, work, result)]);
        };
        if found.used && write == Write::Unbind {
            return Err(format!("device {device} is taken from a running guest"));
        }
        self.announced(w, who, device, is_bind)?;
        let fail = |w: &World, mut work: Work, late: bool| match undoing {
            true => end(
                w,
                work,
                if late || hung {
                    Ended::Hung
                } else {
                    Ended::Astray
                },
            ),
            false => {
                work.parts[device] = Part::Acting {
                    is_bind,
                    from,
                    goal,
                    certain: false,
                    undoing: true,
                    hung: late,
                };
                with(w, who, work)
            }
        };
        if found.stuck.is_some() {
            return Ok(vec![fail(w, work, true)]);
        }
        let mut done = w.clone();
        done.devices[device].apply(write);
        if let Part::Acting { certain, .. } = &mut work.parts[device] {
            *certain = false;
        }
        let mut all = vec![with(&done, who, work)];
        if w.faults > 0 {
            let spent = |w: &World| World {
                faults: w.faults - 1,
                ..w.clone()
            };
            all.push(fail(&spent(w), work, false));
            all.push(fail(&spent(&done), work, false));
            for late in [false, true] {
                let mut stuck = spent(w);
                stuck.devices[device].stuck = Some((write, late));
                all.push(fail(&stuck, work, true));
            }
        }
        Ok(all)
    }

    /// Every write is preceded by its record.
    fn announced(&self, w: &World, who: usize, device: usize, is_bind: bool) -> Result<(), String> {
        match w.disk[who][device] {
            Some(line) if !is_bind || line.phase() != Phase::Bound => Ok(()),
            found => Err(format!(
                "device {device} is written to, and on record is {found:?}"
            )),
        }
    }
}

fn work_failed(model: &Model, w: World) -> Vec<World> {
    match w.work[ADMIN] {
        Some(work) => model.admin_failed(w, work),
        None => vec![w],
    }
}

fn acting(w: &World, device: usize, is_bind: bool, goal: Binding, certain: bool) -> Part {
    Part::Acting {
        is_bind,
        from: w.devices[device].now,
        goal,
        certain,
        undoing: false,
        hung: false,
    }
}

fn queue(order: &[u8]) -> [Option<u8>; DEVICES] {
    std::array::from_fn(|index| order.get(index).copied())
}

fn work(kind: Kind, records: &[Option<Line>], order: &[u8]) -> Work {
    Work {
        kind,
        records: std::array::from_fn(|index| records.get(index).copied().flatten()),
        parts: [Part::Idle; DEVICES],
        found: Default::default(),
        queue: queue(order),
        taken: 0,
    }
}

fn with(w: &World, who: usize, work: Work) -> World {
    let mut next = w.clone();
    next.work[who] = Some(work);
    next
}

fn without(w: &World, who: usize) -> World {
    let mut next = w.clone();
    next.work[who] = None;
    next
}

/// The result of writing the records of several devices.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Done,
    /// At one of them, which may have been written; those before it were.
    Failed,
    /// The agent ended between two of them.
    Died,
}

/// Writes a domain's records, one after another: first those that remain, then those that end, the binding one last.
fn written_each(w: &World, who: usize, records: Records) -> Vec<(World, Written)> {
    let mut order: Vec<usize> = (0..DEVICES).collect();
    order.retain(|device| w.disk[who][*device] != records[*device]);
    let is_binding = |line: Option<Line>| line.is_some_and(|line| line.phase() == Phase::Binding);
    order.sort_by_key(|device| (records[*device].is_none(), is_binding(w.disk[who][*device])));
    let (mut done, mut cut_off) = (w.clone(), Vec::new());
    let fault = |w: &World| World {
        faults: w.faults - 1,
        ..w.clone()
    };
    for (count, device) in order.iter().enumerate() {
        if w.faults > 0 {
            cut_off.push((fault(&done), Written::Failed));
        }
        if w.crashes > 0 && count > 0 {
            cut_off.push((crash(&done), Written::Died));
        }
        done.disk[who][*device] = records[*device];
        if w.faults > 0 {
            cut_off.push((fault(&done), Written::Failed));
        }
    }
    let mut all = vec![(done, Written::Done)];
    all.append(&mut cut_off);
    all
}

/// A write of one record: done, failed, or failed with effect.
fn written(w: &World, write: impl Fn(&mut World)) -> Vec<(World, bool)> {
    let mut done = w.clone();
    write(&mut done);
    let mut all = vec![(done.clone(), true)];
    if w.faults > 0 {
        for (mut failed, _) in [(w.clone(), ()), (done, ())] {
            failed.faults -= 1;
            all.push((failed, false));
        }
    }
    all
}

fn end_write(w: &World, device: usize) -> World {
    let mut next = w.clone();
    if let Some((write, true)) = next.devices[device].stuck.take() {
        next.devices[device].apply(write);
    }
    next
}

/// The agent ends; a start in progress fails, and its end causes no event.
fn crash(w: &World) -> World {
    let mut next = w.clone();
    next.alive = false;
    next.crashes -= 1;
    next.work = [None; OWNERS];
    for guest in &mut next.guests {
        if *guest == Guest::Starting {
            *guest = Guest::Off;
        }
    }
    (next.ended, next.orphans, next.retry) = Default::default();
    next
}

fn restart(w: &World) -> World {
    let mut next = w.clone();
    next.alive = true;
    for who in 0..OWNERS {
        let mut lines = next.disk[who].iter().flatten();
        next.retry[who] = lines.any(|line| line.phase() != Phase::Bound) || who == ADMIN;
        if who != ADMIN {
            next.orphans[who] = next.disk[who].iter().any(Option::is_some);
        }
    }
    next
}
