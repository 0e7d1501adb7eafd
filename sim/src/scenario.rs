//! All that decides how a simulated run goes: its plan, its workers, and the faults that strike.

use std::fmt;

use convoy_scheduler::{CheckpointIntervals, Limits, Micros, RunPlan, ShardId, StepId, Timeouts};

use crate::dice::Dice;
use crate::mutants::Mutant;

macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident = $name:literal, at most $most:literal;)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault { $($(#[$doc])* $fault,)* }

        impl Fault {
            /// All kinds.
            pub const ALL: &[Fault] = &[$(Fault::$fault,)*];

            /// How it is named in a summary.
            pub fn name(self) -> &'static str {
                match self { $(Fault::$fault => $name,)* }
            }

            /// Its highest chance in a thousand, in the weather of a seed.
            fn most(self) -> u64 {
                match self { $(Fault::$fault => $most,)* }
            }
        }
    };
}

// The first group strikes every 50 ms, the second at each lease, message or checkpoint, the third at each restart.
faults! {
    /// A worker's process dies. Its connection closes and it comes back.
    Kill = "kill", at most 40;
    /// A connection is lost in mid-stream: each of its streams is cut at a place of its own. The coordinator may notice
    /// late or never.
    Cut = "cut", at most 40;
    /// A worker is stopped (SIGSTOP) for up to 12 s, and then goes on as if nothing had happened.
    Pause = "pause", at most 30;
    /// A worker computes ten times slower for some seconds.
    Slow = "slow", at most 30;
    /// A worker sleeps 1.8 s of every 1.9 s, for some seconds.
    Pulse = "pulse", at most 20;
    /// A connection carries nothing in one of its two directions for up to 8 s.
    OneWay = "one way", at most 20;
    /// The coordinator is stopped (SIGSTOP) for up to 20 s, and then goes on as if nothing had happened.
    Sleep = "coordinator asleep", at most 5;
    /// A worker's link is slow for some seconds: nodes and parameters take up to 20 s, but their bytes flow.
    SlowLink = "slow link", at most 30;
    /// A worker takes up to a minute to send a node, for some seconds, though its link is good.
    Dawdle = "dawdle", at most 20;
    /// A worker cannot connect to another for up to 8 s, perhaps neither to the other.
    Parted = "parted", at most 20;
    /// What a worker exchanges with others takes up to 4 s, for some seconds.
    SlowPeer = "slow peer", at most 20;
    /// An owner takes chunks of others at a trickle for some seconds: nobody can say that it takes nothing.
    Trickle = "trickle", at most 10;
    /// A worker's heartbeats go on, but it computes no more. It may take nothing from others, either, or take it and
    /// make nothing of it.
    Hang = "hang", at most 20;
    /// A worker asks to leave, leaves, and comes back.
    Drain = "drain", at most 20;
    /// All workers die, and stay away for some seconds.
    Exodus = "exodus", at most 5;
    /// Some workers' connections stop carrying messages, one after the other, and then carry them again, in another
    /// order.
    Swizzle = "swizzle", at most 8;
    /// The coordinator is killed between two events.
    Crash = "crash", at most 8;
    /// The coordinator is killed at one of its next writes to the journal, before or after it took effect.
    CrashAtWrite = "crash at a write", at most 12;
    /// Somebody stops the run, and starts it again.
    Stop = "stop", at most 10;
    /// A worker fails at a lease.
    Failure = "failed lease", at most 100;
    /// An answer arrives a second time, much later, perhaps over another connection.
    Repeat = "repeat", at most 200;
    /// A message takes a hundred times as long as usual; later messages of its stream wait.
    Delay = "delay", at most 30;
    /// A worker computes wrongly from now on: other numbers, a NaN, or something absurdly large. Where chunks are
    /// exchanged every other one computes rightly, and lies in other ways at most.
    Lie = "lying", at most 20;
    /// A worker that lies sends its node twice: first the wrong numbers, then the right ones.
    Twice = "sent twice", at most 900;
    /// An owner dies as soon as the sum of a chunk is on its way to the coordinator.
    Flee = "owner gone", at most 20;
    /// A worker that lies sends half of a node and dies; where there are owners, it dies when they have some of it.
    Half = "half a node", at most 500;
    /// A worker that lies sends its node once more, in a push of its own, with the right numbers.
    Otherwise = "sent otherwise", at most 800;
    /// A machine that lies computes rightly whatever is only compared: where owners add chunks, it can tell.
    Careful = "careful", at most 900;
    /// An owner on a machine that lies adds wrongly, all the time: it sends wrong sums, and hands out what it makes of
    /// them.
    Misadd = "added wrongly", at most 600;
    /// An owner that lies says to have been brought something else than it was, of a chunk of a node or where its sum
    /// is another one than the coordinator's.
    Misreport = "misreported", at most 400;
    /// A worker that lies sends the coordinator another chunk than it has sent its owner, where a sum is audited.
    Missend = "sent another chunk", at most 400;
    /// A worker that lies does not answer where a sum is audited.
    Mute = "no answer", at most 400;
    /// A worker that lies says that an owner has handed it wrong parameters, which it has not.
    Accuse = "accused", at most 200;
    /// A worker that lies hands out other parameters than it has made. Whoever is handed them says so.
    Misserve = "wrong parameters", at most 500;
    /// A worker is refused when it comes: it is of another version, until somebody replaces it.
    Refused = "refused", at most 300;
    /// The clock of what the coordinator is told shows up to 5 s less than it did.
    ClockBack = "clock back", at most 30;
    /// A checkpoint cannot be written.
    DiskFull = "checkpoint failed", at most 300;
    /// The newest checkpoint cannot be read after a restart; the one before it can.
    Damage = "checkpoint damaged", at most 200;
}

/// How rough it is, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weather {
    /// Faults happen until then; after that the run must get to its end.
    pub storm: Micros,
    /// In a thousand, by [`Fault`].
    pub chances: Vec<u32>,
    /// Whether after the storm all workers compute. Otherwise one at least does, and those that hang go on hanging.
    pub all_heal: bool,
}

impl Weather {
    /// No fault at all.
    pub fn calm() -> Weather {
        Weather { storm: Micros(0), chances: vec![0; Fault::ALL.len()], all_heal: true }
    }

    /// This weather with another chance of one fault, in a thousand.
    pub fn with(mut self, fault: Fault, per_mille: u32) -> Weather {
        self.chances[fault as usize] = per_mille;
        self
    }

    /// The chance of a fault, in a thousand.
    pub fn chance(&self, fault: Fault) -> u32 {
        self.chances[fault as usize]
    }

    /// One weather in eight is calm. In the others each kind of fault has an even chance to be left out: a fault that
    /// comes all the time hides what others do.
    fn drawn(dice: &mut Dice) -> Weather {
        if dice.chance(125) {
            return Weather::calm();
        }
        let storm = Micros::millis(2_000 + dice.below(28_000));
        let mut draw = |fault: &Fault| if dice.chance(500) { 0 } else { 1 + dice.below(fault.most()) as u32 };
        let chances = Fault::ALL.iter().map(&mut draw).collect();
        Weather { storm, chances, all_heal: dice.chance(500) }
    }
}

/// Whether the journal's records that were written but not synced survive the death of the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// They are there: the process died, the machine did not.
    Kept,
    /// They are gone.
    Lost,
    /// Some of the last are gone.
    Random,
}

/// Where the coordinator is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashPoint {
    /// At this write to the journal, counted from 1 over all starts.
    pub write: u64,
    /// Whether the write took effect before.
    pub written: bool,
    /// Which records are lost.
    pub tail: Tail,
}

/// The size of the runs that are drawn from seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Workers.
    pub workers: usize,
    /// Steps in the run.
    pub steps: u64,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape { workers: 8, steps: 40 }
    }
}

/// All that decides how a simulated run goes. Many fields: each is a dial of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The seed of everything that is random in the world.
    pub seed: u64,
    /// The plan of the first start.
    pub plan: RunPlan,
    /// Worker processes.
    pub workers: usize,
    /// Whether the last two of them are of one machine.
    pub twins: bool,
    /// How many more there are that compute nothing and only own chunks.
    pub adders: usize,
    /// How many of them, the last ones, sleep 1.8 s of every 1.9 s all the time.
    pub pulsing: usize,
    /// The last one takes so long to send a node, all the time; its bytes flow.
    pub dawdle: Option<Micros>,
    /// Whether processes exchange chunks among themselves.
    pub peers: bool,
    /// Pairs of processes of which the first can never connect to the second.
    pub parted: Vec<(usize, usize)>,
    /// A shard of which every process dies that computes it.
    pub poison: Option<(StepId, ShardId)>,
    /// The faults.
    pub weather: Weather,
    /// A kill of the coordinator at a given write, besides the weather.
    pub crash_at: Option<CrashPoint>,
    /// A fault of Convoy itself.
    pub mutant: Option<Mutant>,
    /// Whether every event is handled by a second run as well, which must do the same. Doubles the time.
    pub doubles: bool,
}

impl Scenario {
    /// A run without faults.
    pub fn calm(seed: u64, plan: RunPlan, workers: usize) -> Scenario {
        let weather = Weather::calm();
        Scenario {
            seed,
            plan,
            workers,
            twins: false,
            adders: 0,
            pulsing: 0,
            dawdle: None,
            peers: false,
            parted: Vec::new(),
            poison: None,
            weather,
            crash_at: None,
            mutant: None,
            doubles: false,
        }
    }

    /// The run of this seed: plan and weather are drawn from it.
    pub fn drawn(seed: u64, shape: Shape) -> Scenario {
        let mut dice = Dice::new(seed);
        let plan = plan(&mut dice, shape);
        let weather = Weather::drawn(&mut dice);
        let (doubles, twins) = (seed.is_multiple_of(16), shape.workers > 5 && dice.chance(500));
        let peers = dice.chance(600);
        let drawn = Scenario { weather, doubles, twins, peers, ..Scenario::calm(seed, plan, shape.workers) };
        let drawn = if dice.chance(100) { drawn.among_liars(&mut dice) } else { drawn };
        // Most of them where they can own anything.
        let adders = if dice.chance(if drawn.peers { 350 } else { 50 }) { 1 + dice.below(2) as usize } else { 0 };
        Scenario { adders, ..drawn }
    }

    /// This run with owners of chunks and many liars.
    fn among_liars(self, dice: &mut Dice) -> Scenario {
        let plan = RunPlan { audit_every: dice.pick(&[3, 30, 100]), ..self.plan };
        let storm = self.weather.storm.max(Micros::seconds(5));
        let mut weather = Weather { storm, all_heal: true, ..self.weather }.with(Fault::Lie, 60);
        for how in [Fault::Careful, Fault::Misadd, Fault::Misreport, Fault::Missend, Fault::Mute, Fault::Accuse] {
            weather = weather.with(how, if dice.chance(500) { 0 } else { 1 + dice.below(how.most()) as u32 });
        }
        Scenario { plan, weather, peers: true, ..self }
    }

    /// Steps of `workers` that compute all the time and one more that sleeps most of it.
    pub fn pulses(seed: u64, workers: usize) -> Scenario {
        let plan = RunPlan::new(1, 600, 24, 24);
        Scenario { pulsing: 1, ..Scenario::calm(seed, plan, workers + 1) }
    }

    /// Steps of `workers` with good links, and one more that takes so long to send a node. The bound is as low as any.
    pub fn dawdles(seed: u64, workers: usize, takes: Micros) -> Scenario {
        let timeouts = Timeouts { send_floor: Micros::seconds(2), ..Timeouts::default() };
        let plan = RunPlan { timeouts, ..RunPlan::new(1, 600, 24, 24) };
        Scenario { dawdle: Some(takes), ..Scenario::calm(seed, plan, workers + 1) }
    }

    /// Three workers and a shard of which each of them dies.
    pub fn poisoned(seed: u64) -> Scenario {
        let poison = Some((StepId(2), ShardId(5)));
        Scenario { poison, ..Scenario::calm(seed, RunPlan::new(1, 6, 12, 12), 3) }
    }

    /// So many workers, all of which are lost at once and come back at the same moment.
    pub fn herd(seed: u64, workers: usize) -> Scenario {
        let storm = Micros::seconds(3);
        let weather = Weather { storm, ..Weather::calm() }.with(Fault::Exodus, 30);
        Scenario { weather, ..Scenario::calm(seed, RunPlan::new(1, 3, 2000, 2000), workers) }
    }

    /// So many workers, whose coordinator is killed and starts again: all come back at once.
    pub fn restart(seed: u64, workers: usize) -> Scenario {
        let crash_at = Some(CrashPoint { write: workers as u64 + 2, written: true, tail: Tail::Kept });
        Scenario { crash_at, ..Scenario::calm(seed, RunPlan::new(1, 3, 2000, 2000), workers) }
    }

    /// Workers that exchange chunks, some of which hang for good.
    pub fn deaf(seed: u64) -> Scenario {
        let plan = RunPlan { chunks: 8, limits: patient(), ..RunPlan::new(1, 20, 16, 16) };
        let weather = Weather { storm: Micros::seconds(8), all_heal: false, ..Weather::calm() };
        let weather = weather.with(Fault::Hang, 20);
        Scenario { weather, peers: true, ..Scenario::calm(seed, plan, 5) }
    }

    /// Workers that exchange chunks, some of which lie in a way of their own.
    pub fn sliced_liars(seed: u64, how: Fault) -> Scenario {
        Scenario { peers: true, ..Scenario::liars(seed, how) }
    }

    /// Workers that exchange chunks, some of which lie in all that they say and send: what they compute, what they add,
    /// and what they answer where that is audited.
    pub fn lying_owners(seed: u64) -> Scenario {
        let how = [Fault::Misreport, Fault::Missend, Fault::Mute];
        let scenario = Scenario::sliced_liars(seed, Fault::Misadd);
        let weather = Weather { storm: Micros::seconds(8), ..scenario.weather.clone() };
        let weather = how.into_iter().fold(weather.with(Fault::Misadd, 800), |weather, how| weather.with(how, 200));
        Scenario { weather, ..scenario }
    }

    /// Workers that exchange chunks and accuse each other, and the coordinator's machine dies with its last records
    /// unsynced.
    pub fn lost_accusations(seed: u64) -> Scenario {
        let crash_at = Some(CrashPoint { write: 12 + seed % 24, written: true, tail: Tail::Lost });
        Scenario { crash_at, ..Scenario::sliced_liars(seed, Fault::Accuse) }
    }

    /// Workers that exchange chunks and lie. Both who lied and who has added the lie may be gone before anybody
    /// compares.
    pub fn fleeting_liars(seed: u64) -> Scenario {
        let plan = RunPlan { chunks: 8, audit_every: 100, limits: patient(), ..RunPlan::new(1, 8, 30, 19) };
        let weather = Weather { storm: Micros::seconds(10), ..Weather::calm() };
        let weather = weather.with(Fault::Lie, 100).with(Fault::Half, 300).with(Fault::Flee, 100);
        Scenario { weather, peers: true, ..Scenario::calm(seed, plan, 8) }
    }

    /// Workers that exchange chunks, some of which take those of others at a trickle.
    pub fn trickling(seed: u64) -> Scenario {
        let plan = RunPlan { chunks: 24, limits: patient(), ..RunPlan::new(1, 30, 16, 16) };
        let weather = Weather { storm: Micros::seconds(60), ..Weather::calm() }.with(Fault::Trickle, 20);
        Scenario { weather, peers: true, ..Scenario::calm(seed, plan, 4) }
    }

    /// So many workers that exchange chunks.
    pub fn peers(seed: u64, workers: usize) -> Scenario {
        let plan = RunPlan { chunks: 8, ..RunPlan::new(1, 30, 16, 16) };
        Scenario { peers: true, ..Scenario::calm(seed, plan, workers) }
    }

    /// Workers that lie and never complete a node: each time they send a part of it and die.
    pub fn halves(seed: u64) -> Scenario {
        let plan = RunPlan { audit_every: 100, limits: patient(), ..RunPlan::new(1, 200, 24, 24) };
        let weather = Weather { storm: Micros::seconds(300), ..Weather::calm() };
        let weather = weather.with(Fault::Lie, 1000).with(Fault::Half, 1000);
        Scenario { weather, ..Scenario::calm(seed, plan, 8) }
    }

    /// Workers that lie in a way of their own, which is a fault.
    pub fn liars(seed: u64, how: Fault) -> Scenario {
        let plan = RunPlan { chunks: 8, audit_every: 30, limits: patient(), ..RunPlan::new(1, 20, 30, 19) };
        let weather = Weather { storm: Micros::seconds(4), ..Weather::calm() }.with(Fault::Lie, 100).with(how, 400);
        Scenario { weather, ..Scenario::calm(seed, plan, 8) }
    }

    /// Workers begin to lie between two audits, and the coordinator's machine dies with its last records unsynced: a
    /// commit that counts a lie may be lost, and the step then gets another digest the next time.
    pub fn lost_lies(seed: u64) -> Scenario {
        let plan = RunPlan { audit_every: 100, limits: patient(), ..RunPlan::new(1, 20, 30, 19) };
        let weather = Weather { storm: Micros::seconds(3), ..Weather::calm() }.with(Fault::Lie, 100);
        let crash_at = Some(CrashPoint { write: 12 + seed % 16, written: true, tail: Tail::Lost });
        Scenario { weather, crash_at, ..Scenario::calm(seed, plan, 8) }
    }
}

/// Failures must not end a run: they would hide what comes after.
fn patient() -> Limits {
    let attempts = 1_000_000;
    let (data_attempts, internal_attempts, doubtful_attempts) = (attempts, attempts, attempts);
    // Workers that die at random are no reason to end a run: `deaths` stays as it is.
    Limits { data_attempts, internal_attempts, doubtful_attempts, ..Limits::default() }
}

fn plan(dice: &mut Dice, shape: Shape) -> RunPlan {
    let steps = shape.steps.max(1);
    let fitting: Vec<u64> = [1, 2, 4, 5].into_iter().filter(|epochs| steps.is_multiple_of(*epochs)).collect();
    let epochs = dice.pick(&fitting);
    let full = 8 + dice.below(33) as u32;
    let last = 1 + dice.below(u64::from(full)) as u32;
    let workers = if dice.chance(100) { shape.workers.max(1) as u32 } else { 1024 };
    let lease_shards = 2 + dice.below(15) as u32;
    let evaluate_shards = if dice.chance(333) { 1 + dice.below(32) as u32 } else { 0 };
    let checkpoint = CheckpointIntervals { steps: dice.below(9), time: Micros::seconds(dice.below(4)) };
    let queue_per_thread = 1 + dice.below(3) as u32;
    let audit_every = dice.pick(&[0, 3, 30, 100]);
    let timeouts = Timeouts {
        lease_unmeasured: Micros::seconds(dice.pick(&[5, 60])),
        ready_grace: Micros::seconds(dice.pick(&[1, 10])),
        ..Timeouts::default()
    };
    let limits = Limits { workers, queue_per_thread, lease_shards, ..patient() };
    let chunks = dice.pick(&[2, 2, 4, 5, 8]);
    let plan = RunPlan::new(epochs as u32, steps / epochs, full, last);
    RunPlan { chunks, evaluate_shards, checkpoint, audit_every, timeouts, limits, ..plan }
}

/// The plan and the weather in two lines, to understand a trace.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RunPlan { epochs, steps_per_epoch, shards_full_step, shards_last_step, evaluate_shards, .. } = self.plan;
        writeln!(
            f,
            "seed {}: {} workers and {} that only add, {epochs} epochs of {steps_per_epoch} steps of {shards_full_step} shards \
             ({shards_last_step} in the last), {evaluate_shards} to evaluate",
            self.seed, self.workers, self.adders
        )?;
        write!(f, "faults for {}, chances in a thousand:", self.weather.storm)?;
        let faults = Fault::ALL.iter().filter(|fault| self.weather.chance(**fault) > 0);
        faults.into_iter().try_for_each(|fault| write!(f, " {} {},", fault.name(), self.weather.chance(*fault)))?;
        if let Some(mutant) = self.mutant {
            write!(f, " mutant {}: {}", mutant.name(), mutant.about())?;
        }
        Ok(())
    }
}
