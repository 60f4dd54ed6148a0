//! What is measured, and how good it has to be.

use std::time::Duration;

use clap::ValueEnum;

use super::responder::Path;
use super::sides::Side;

/// What a case is called on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Key {
    Knot,
    Near,
    Far,
    Loss,
    Limited,
    Small,
    SmallLoss,
    Few,
    Product,
}

impl Key {
    /// As the command line takes it.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Who answers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Server {
    Knot,
    Responder(Path),
}

/// One thing that is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) key: Key,
    /// What lies between a client and its answers.
    pub(crate) title: &'static str,
    pub(crate) server: Server,
    pub(crate) names: u32,
    /// How many names in a quick run, if it is in one.
    pub(crate) quick: Option<u32>,
    pub(crate) sides: &'static [Side],
    pub(crate) bars: &'static [Bar],
}

/// A ratio that our side is not to exceed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bar {
    pub(crate) measure: Measure,
    pub(crate) against: Against,
    pub(crate) limit: f64,
}

/// What is compared.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Measure {
    Wall,
    Cpu,
    Queries,
}

impl Measure {
    /// As it stands in a bar.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Wall => "wall",
            Self::Cpu => "CPU",
            Self::Queries => "queries",
        }
    }
}

/// With what it is compared.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Against {
    Side(Side),
    /// Seconds below which nobody can be, for so many names.
    Floor(fn(u32) -> f64),
    /// It is a ratio already.
    Nothing,
}

/// Queries the limited resolver serves in a second.
const RATE: u64 = 20_000;
/// Seconds to an answer from far.
const DISTANCE: f64 = 0.020;

const NEAR: Path = Path { delay: Duration::ZERO, loss: 0, rate: 0, queue: 0, seed: 0 };
const FAR: Path = Path { delay: Duration::from_millis(20), ..NEAR };
const LOSSY: Path = Path { loss: 10_000, ..FAR };
const LIMITED: Path = Path { rate: RATE, queue: 1000, ..FAR };

const BULK: &[Side] = &[Side::Outgate, Side::MassdnsTuned, Side::Massdns, Side::Floor];
const ALL: &[Side] = &[Side::Outgate, Side::MassdnsTuned, Side::Massdns, Side::Hickory, Side::Batches, Side::Dnspython];

const fn bar(measure: Measure, against: Against, limit: f64) -> Bar {
    Bar { measure, against, limit }
}

/// Every case, in the order they run.
pub(crate) const CASES: &[Case] = &[
    Case {
        key: Key::Knot,
        title: "Knot DNS, no delay",
        server: Server::Knot,
        names: 100_000,
        quick: None,
        sides: BULK,
        bars: &[
            bar(Measure::Wall, Against::Side(Side::MassdnsTuned), 0.75),
            bar(Measure::Cpu, Against::Side(Side::MassdnsTuned), 0.65),
        ],
    },
    Case {
        key: Key::Near,
        title: "no delay",
        server: Server::Responder(NEAR),
        names: 100_000,
        quick: Some(2000),
        sides: BULK,
        bars: &[],
    },
    Case {
        key: Key::Far,
        title: "20 ms away",
        server: Server::Responder(FAR),
        names: 100_000,
        quick: None,
        sides: BULK,
        bars: &[],
    },
    Case {
        key: Key::Loss,
        title: "20 ms away, 1 % of the queries lost",
        server: Server::Responder(LOSSY),
        names: 100_000,
        quick: None,
        sides: BULK,
        bars: &[
            bar(Measure::Wall, Against::Side(Side::MassdnsTuned), 1.05),
            bar(Measure::Cpu, Against::Side(Side::MassdnsTuned), 0.65),
            bar(Measure::Queries, Against::Nothing, 2.05),
        ],
    },
    Case {
        key: Key::Limited,
        title: "20 ms away, 20000 queries a second served, 1000 may wait",
        server: Server::Responder(LIMITED),
        names: 10_000,
        quick: Some(2000),
        sides: &[Side::Outgate, Side::MassdnsTuned, Side::Massdns, Side::Hickory],
        bars: &[
            bar(Measure::Wall, Against::Floor(|names| f64::from(names) * 2.0 / RATE as f64), 1.10),
            bar(Measure::Queries, Against::Nothing, 2.05),
        ],
    },
    Case {
        key: Key::Small,
        title: "20 ms away",
        server: Server::Responder(FAR),
        names: 1000,
        quick: None,
        sides: ALL,
        bars: &[],
    },
    Case {
        key: Key::SmallLoss,
        title: "20 ms away, 1 % of the queries lost",
        server: Server::Responder(LOSSY),
        names: 1000,
        quick: Some(500),
        sides: ALL,
        bars: &[
            bar(Measure::Wall, Against::Side(Side::Batches), 1.0 / 200.0),
            bar(Measure::Wall, Against::Side(Side::MassdnsTuned), 0.75),
        ],
    },
    Case {
        key: Key::Few,
        title: "20 ms away, whole chains in an answer: one round trip is the floor",
        server: Server::Responder(FAR),
        names: 50,
        quick: Some(50),
        sides: &[Side::Outgate, Side::MassdnsTuned, Side::Massdns, Side::Hickory],
        bars: &[bar(Measure::Wall, Against::Floor(|_| DISTANCE), 1.5)],
    },
    Case {
        key: Key::Product,
        title: "20 ms away; the whole product beside its resolver alone",
        server: Server::Responder(FAR),
        names: 10_000,
        quick: Some(500),
        sides: &[Side::Outgate, Side::MassdnsTuned, Side::Product],
        bars: &[],
    },
];
