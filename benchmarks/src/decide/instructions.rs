//! Instructions of a decision, counted by callgrind in a process of its own and around the measured calls alone.

use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use engine::bundle::Bundle;
use tempfile::TempDir;

use super::mix::Dimensions;
use super::world::World;
use super::{rows, telling};
use crate::figures::Figure;
use crate::process::under;
use crate::{Failure, callgrind};

/// Numbers of policies.
pub(super) const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
/// The function around which callgrind collects, by its name.
const COLLECTED: &str = "--toggle-collect=*counted_decisions*";
/// What the process says when it is about to begin, and when it has ended.
const TOLD: [&str; 2] = ["ready", "done"];

/// A process under callgrind; killed when dropped.
struct Counting {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// The row of as many policies.
///
/// # Errors
/// The process fails, or callgrind cannot be told what to do.
pub(super) fn row(policies: usize) -> Result<Figure, Failure> {
    telling(&format!("counting instructions with {policies} policies"));
    let folder = TempDir::new()?;
    let out = folder.path().join("decide.callgrind");
    let mut counting = Counting::start(policies, &out)?;
    let counted = callgrind::count(counting.child.id(), &out, || counting.go())?;
    let requests = World::generate(&Dimensions::of(policies, 0))?.asks.len();
    let each = counted.instructions as f64 / requests.max(1) as f64;
    Ok(Figure::once(format!("decide.instructions.{policies}"), each, "instructions/request"))
}

impl Counting {
    fn start(policies: usize, out: &Path) -> Result<Self, Failure> {
        let mut words = callgrind::words(out);
        words.push(COLLECTED.to_owned());
        let mut command = under(&words, &std::env::current_exe()?);
        command.args(["decide", "--count-one", &policies.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a process without its ends".into());
        };
        let mut counting = Self { child, input, output: BufReader::new(output) };
        let [ready, _] = TOLD;
        counting.hear(ready)?;
        Ok(counting)
    }

    fn go(&mut self) -> Result<(), Failure> {
        writeln!(self.input)?;
        let [_, done] = TOLD;
        self.hear(done)
    }

    fn hear(&mut self, expected: &str) -> Result<(), Failure> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.trim() == expected { Ok(()) } else { Err(format!("it said `{}`", line.trim()).into()) }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Decides everything once when it is told to, and waits until nobody wants more of it.
///
/// # Errors
/// A fault of the generator, or nobody is there to tell.
pub(super) fn one(policies: usize) -> Result<(), Failure> {
    let world = World::generate(&Dimensions::of(policies, 0))?;
    let bundle = rows::loaded(&world)?;
    counted_decisions(&bundle, &world)?;
    let [ready, done] = TOLD;
    let mut line = String::new();
    println!("{ready}");
    std::io::stdin().read_line(&mut line)?;
    counted_decisions(&bundle, &world)?;
    println!("{done}");
    std::io::stdin().read_line(&mut line)?;
    Ok(())
}

/// Not inlined, or callgrind would not find it.
#[inline(never)]
fn counted_decisions(bundle: &Bundle, world: &World) -> Result<(), Failure> {
    for (ask, from) in world.asks.iter().zip(0..) {
        black_box(rows::decided(bundle, ask, from)?);
    }
    Ok(())
}
