//! Made-up bodies like parca-agent's, for benches, tests and quick demos.

use super::{
    Arrow, Table, Unreadable,
    column::{NONE, Runs},
    table::{Function, Kind, LabelColumn, Line, Location, Mapping, Stack},
    write_v1, write_v2,
};

/// What to make up; equal values make equal bodies.
///
/// Rows are CPU samples in the order of their times, a few of each process in a row.
/// Stacks share their outer frames: a kernel or native leaf, then interpreted ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyntheticArrow {
    /// Where the randomness starts.
    pub seed: u64,
    /// Samples.
    pub rows: u32,
    /// Different stacks.
    pub stacks: u32,
    /// Frames of each.
    pub depth: u32,
    /// Processes, which differ in their label `comm`.
    pub processes: u32,
    /// The first row's time, nanoseconds since the epoch.
    pub time: i64,
}

// === impl SyntheticArrow ===

impl SyntheticArrow {
    /// What an agent on a machine of some 20 busy cores sends every 5 s: about 2,000
    /// rows and 300 stacks of 24 frames.
    pub fn busy(seed: u64) -> Self {
        Self {
            seed,
            rows: 2_000,
            stacks: 300,
            depth: 24,
            processes: 12,
            time: 1_780_000_000_000_000_000,
        }
    }

    /// The two messages of schema v1.
    pub fn v1(&self) -> Result<Arrow, Unreadable> {
        let (samples, stacks) = write_v1(&self.table(), u64::MAX)?;
        Ok(Arrow::v1(samples, stacks))
    }

    /// The message of schema v2.
    pub fn v2(&self) -> Result<Arrow, Unreadable> {
        Ok(Arrow::v2(write_v2(&self.table(), u64::MAX)?))
    }

    /// What they say.
    pub fn table(&self) -> Table {
        let mut table = Table::empty();
        let mut random = Random(self.seed);
        self.put_stacks(&mut table, &mut random);
        self.put_rows(&mut table, &mut random);
        table
    }

    fn put_stacks(&self, table: &mut Table, random: &mut Random) {
        let mut text = |text: &str| table.texts.intern(text.as_bytes());
        let [kernel, native, python] = ["kernel", "native", "cpython"].map(&mut text);
        table.mappings.extend([
            Mapping {
                file: text("[kernel.kallsyms]"),
                ..Mapping::default()
            },
            Mapping {
                file: text("libc.so.6"),
                build_id: text("0123456789abcdef0123456789abcdef01234567"),
                ..Mapping::default()
            },
        ]);
        let functions = (self.stacks / 2 + 8).min(4_000);
        for place in 0..functions {
            let name = format!("module_{}.Class{}.method_{place}", place % 7, place % 13);
            let file = format!("/srv/app/module_{}.py", place % 7);
            table.functions.push(Function {
                name: text(&name),
                filename: text(&file),
                ..Function::default()
            });
            table.lines.push(Line {
                line: 10 + i64::from(place % 400),
                column: 0,
                function: place,
            });
        }
        for place in 0..functions {
            let (frame_type, mapping, count) = match place % 8 {
                0 => (kernel, 1, 1),
                1 => (native, 2, NONE),
                _ => (python, 0, 1),
            };
            table.locations.push(Location {
                address: 0x1000 + 16 * u64::from(place),
                frame_type,
                mapping,
                begin: place,
                count,
            });
        }
        for place in 1..=self.stacks {
            let begin = table.frames.len() as u32;
            let leaf = random.below(functions);
            for depth in 0..self.depth {
                // The outer half is of few callers.
                let frame = match depth < self.depth / 2 {
                    true => leaf.wrapping_add(7 * depth + place % 3) % functions,
                    false => depth % functions,
                };
                table.frames.push(frame);
            }
            let id = u128::from(random.next()) << 64 | u128::from(place);
            table.stacks.push(Stack {
                id: id.to_be_bytes(),
                begin,
                len: self.depth,
                is_complete: true,
            });
        }
    }

    fn put_rows(&self, table: &mut Table, random: &mut Random) {
        let kind = {
            let mut text = |text: &str| table.texts.intern(text.as_bytes());
            Kind {
                producer: text("parca_agent"),
                sample: [text("samples"), text("count")],
                period_type: [text("cpu"), text("nanoseconds")],
                temporality: text("delta"),
                period: 52_631_578,
                duration: 1_000_000_000,
            }
        };
        table.kinds.push(kind);
        table.kind_of = Runs::constant(0, self.rows);
        let names = ["comm", "cpu", "node", "thread_id", "thread_name"];
        let mut labels = names.map(|_| Runs::EMPTY);
        let mut process = 0;
        for row in 0..self.rows {
            if row % 5 == 0 {
                process = random.below(self.processes);
            }
            let values = [
                format!("proc-{process}"),
                random.below(16).to_string(),
                "node-1".to_owned(),
                (4_000 + 16 * process + random.below(16)).to_string(),
                format!("worker-{}", random.below(3)),
            ];
            for (runs, value) in labels.iter_mut().zip(values) {
                runs.push(table.texts.intern(value.as_bytes()), row + 1);
            }
            table.values.push(1);
            table.times.push(self.time + i64::from(row) * 2_500_000);
            // Some are hot.
            let stack = random.below(self.stacks).min(random.below(self.stacks));
            table.stack_of.push((1 + stack).min(self.stacks));
        }
        let columns = names.into_iter().zip(labels);
        table.labels = columns
            .map(|(name, values)| LabelColumn {
                name: name.into(),
                values,
            })
            .collect();
    }
}

/// splitmix64.
struct Random(u64);

// === impl Random ===

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u32) -> u32 {
        (self.next() % u64::from(bound.max(1))) as u32
    }
}
