//! Which figures each part shows, in which order, under which heads.

use crate::cli::{Mode, Part};

/// A column of a table.
pub(super) struct Column {
    pub(super) head: &'static str,
    pub(super) figure: &'static str,
    pub(super) of: Of,
}

#[derive(Clone, Copy)]
pub(super) enum Of {
    Server,
    Yardstick(Mode),
    Ratio(Mode),
}

const fn server(head: &'static str, figure: &'static str) -> Column {
    Column { head, figure, of: Of::Server }
}

const fn yardstick(head: &'static str, figure: &'static str, mode: Mode) -> Column {
    Column { head, figure, of: Of::Yardstick(mode) }
}

const fn ratio(head: &'static str, figure: &'static str, mode: Mode) -> Column {
    Column { head, figure, of: Of::Ratio(mode) }
}

/// What of a part is shown, beside the names of its rows. A column without a value is left out.
pub(super) fn columns(part: Part) -> &'static [Column] {
    match part {
        Part::Redis => REDIS,
        Part::Cases => CASES,
        Part::Fanout => FANOUT,
        Part::Rooms | Part::Load | Part::Durability | Part::Nodes => ROOMS,
        Part::Idle => IDLE,
        Part::Peak => PEAK,
        Part::Resume => RESUME,
        Part::Channels => CHANNELS,
        Part::Joins => JOINS,
        Part::History => HISTORY,
        Part::Start => START,
    }
}

const REDIS: &[Column] = &[
    server("round trips, /s", "round trips"),
    server("append p50, ms", "append p50"),
    server("append p99", "append p99"),
    server("round trip p50, ms", "round trip p50"),
    server("round trip p99", "round trip p99"),
    server("redis CPU, µs", "server CPU per round trip"),
];

const CASES: &[Column] = &[
    server("cases, /s", "cases"),
    yardstick("single, /s", "cases", Mode::Single),
    server("burble CPU per case, µs", "burble CPU per case"),
    server("redis CPU", "redis CPU per case"),
    yardstick("single CPU", "server CPU per case", Mode::Single),
    ratio("both × single", "server CPU per case", Mode::Single),
    server("case p50, ms", "case p50"),
    server("case p99", "case p99"),
    server("Redis commands per case", "Redis commands per case"),
];

const FANOUT: &[Column] = &[
    server("deliveries, /s", "deliveries"),
    yardstick("single, /s", "deliveries", Mode::Single),
    yardstick("batch, /s", "deliveries", Mode::Batch),
    ratio("× single", "deliveries", Mode::Single),
    ratio("× batch", "deliveries", Mode::Batch),
    server("delivery p50, ms", "delivery p50"),
    server("p99", "delivery p99"),
    server("burble CPU per delivery, µs", "burble CPU per delivery"),
    yardstick("batch CPU", "server CPU per delivery", Mode::Batch),
];

const ROOMS: &[Column] = &[
    server("rate, /s", "rate"),
    yardstick("single, /s", "highest rate that held", Mode::Single),
    ratio("× single", "highest rate that held", Mode::Single),
    server("delivery p50, ms", "delivery p50"),
    server("p99", "delivery p99"),
    server("p99.9", "delivery p99.9"),
    yardstick("single p50", "delivery p50", Mode::Single),
    yardstick("single p99", "delivery p99", Mode::Single),
    ratio("p99 × single", "delivery p99", Mode::Single),
    server("case p99, ms", "case p99"),
    server("burble CPU per message, µs", "burble CPU per message"),
    server("redis CPU", "redis CPU per message"),
    ratio("both × single", "server CPU per message", Mode::Single),
    server("burble CPU per case, µs", "burble CPU per case"),
    server("redis CPU per case", "redis CPU per case"),
    server("Redis commands per message", "Redis commands per message"),
];

const IDLE: &[Column] = &[
    server("burble RSS per session, KiB", "server RSS per session"),
    yardstick("single, KiB", "server RSS per session", Mode::Single),
    server("burble CPU per session, µs", "burble CPU per session"),
    server("redis CPU", "redis CPU per session"),
    ratio("both × single", "server CPU per session", Mode::Single),
    server("opened, /s", "opened"),
    yardstick("single, /s", "opened", Mode::Single),
    server("connect p99, ms", "connect p99"),
];

const PEAK: &[Column] = &[
    server("before, MiB", "RSS before"),
    server("at the peak", "RSS at the peak"),
    server("after", "RSS after"),
    server("after by before", "RSS after by before"),
];

const RESUME: &[Column] = &[
    server("all caught up, s", "time until all caught up"),
    server("caught up p50, ms", "caught up p50"),
    server("p99", "caught up p99"),
    server("replayed messages, /s", "replayed messages"),
    server("burble CPU per session, µs", "burble CPU per session"),
    server("redis CPU", "redis CPU per session"),
    server("Redis commands per session", "Redis commands per session"),
];

const CHANNELS: &[Column] = &[
    server("burble CPU per message, µs", "burble CPU per message"),
    server("redis CPU", "redis CPU per message"),
    yardstick("single CPU", "server CPU per message", Mode::Single),
    ratio("both × single", "server CPU per message", Mode::Single),
    server("delivery p50, ms", "delivery p50"),
    server("p99", "delivery p99"),
    ratio("p99 × single", "delivery p99", Mode::Single),
    server("Redis commands per message", "Redis commands per message"),
];

const JOINS: &[Column] = &[
    server("visits, /s", "visits"),
    ratio("× single", "visits", Mode::Single),
    server("join p50, ms", "join p50"),
    server("join p99", "join p99"),
    server("burble CPU per visit, µs", "burble CPU per visit"),
    ratio("both × single", "server CPU per visit", Mode::Single),
    server("Redis commands per visit", "Redis commands per visit"),
];

const HISTORY: &[Column] = &[
    server("pages, /s", "pages"),
    server("events, /s", "events read"),
    server("page p50, ms", "page p50"),
    server("page p99", "page p99"),
    server("burble CPU per page, µs", "burble CPU per page"),
    server("redis CPU", "redis CPU per page"),
    server("Redis commands per page", "Redis commands per page"),
];

const START: &[Column] = &[server("start to ready, ms", "start to ready")];
