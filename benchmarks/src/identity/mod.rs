//! What it costs to know somebody: a session and a token that are known, a token that is not, a session that Redis is asked
//! for, signing in with a password, and how soon everybody knows that a session has ended.

mod ends;
mod house;
mod sessions;
mod sign_ins;
mod tokens;

use gateway::clock;
use gateway::config::settings::TlsVersion;

use self::house::House;
use crate::cores::Cores;
use crate::load::on_core;
use crate::{Failure, builds, figures};

/// How often each figure is taken; the median is told.
const ROUNDS: usize = 7;

/// What the command line may say.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Measure what an earlier build has left in target/release instead of building it
    #[arg(long)]
    as_built: bool,
}

/// Measures and prints. Nothing is printed that is wrong: whoever should be known has to be, each time.
///
/// # Errors
/// Something does not start, or somebody is not who they should be.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let begun = clock::instant();
    gateway::tls::install_provider(TlsVersion::V1_3)?;
    let cores = Cores::of_machine()?;
    let house = House::new(cores.load)?;
    if !house.has_redis() {
        eprintln!(
            "left out: identity.session_redis_us, identity.login_redis_per_s, identity.end_*; no redis-server here (Debian: redis-server)"
        );
    }
    let mut figures = on_core(cores.proxy, || sessions::known(&house))?;
    figures.extend(on_core(cores.proxy, || tokens::figures(&house))?);
    if house.has_redis() {
        figures.extend(on_core(cores.proxy, || sessions::asked(&house))?);
    }
    figures.extend(sign_ins::figures(&house)?);
    figures.extend(ends::figures(cores, builds::cedargate(options.as_built)?)?);
    figures::print(&figures)?;
    eprintln!("{} s in all", begun.elapsed().as_secs());
    Ok(())
}

/// What one of `times` took in this round, in seconds.
async fn each<F: Future<Output = Result<(), Failure>>>(
    times: u32,
    mut once: impl FnMut(u32) -> F,
) -> Result<f64, Failure> {
    let begun = clock::instant();
    for number in 0..times {
        once(number).await?;
    }
    Ok(begun.elapsed().as_secs_f64() / f64::from(times.max(1)))
}
