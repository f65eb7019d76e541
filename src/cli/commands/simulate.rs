//! `zim-batch simulate`: a simulator for any program. Also the simulator's options for `clear --simulate`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use zim_batch::files::{self, OWNER_ONLY};
use zim_batch::simulator::{self, World, WorldError};
use zim_batch::stop::StopHandle;
use zim_batch::text::{shell_word, with_causes};

use crate::cli::engine::signals;
use crate::cli::errors::Error;
use crate::cli::errors::ExitStatus;
use crate::cli::output::print::{print, print_note, to_json};
use crate::cli::settings::secret;
use crate::cli::settings::simulate::SimulateSettings;

pub async fn simulate(settings: SimulateSettings) -> Result<ExitCode, Error> {
    let world = match &settings.conversations {
        None => World::sample(),
        Some(path) => File::open(path)
            .map_err(WorldError::Read)
            .and_then(World::from_csv)
            .map_err(|error| Error::Usage(format!("{} (--conversations): {}", path.display(), with_causes(&error))))?,
    };
    let events = settings.events.as_deref().map(open_events).transpose()?;
    let mut options = settings.options;
    if let Some(path) = &settings.secret_file {
        options.server_secret = secret::from_file(path, "--secret-file")?.into();
    }
    let no_port = |error| {
        let port = settings.port;
        Error::Usage(format!(
            "can't listen on 127.0.0.1:{port} (--port): {error}; choose another port, or 0 for a free one"
        ))
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, settings.port))
        .await
        .map_err(no_port)?;
    let address = listener.local_addr().map_err(no_port)?;
    let contents = format!(
        "{} users, {} conversations{}",
        world.users(),
        world.conversations(),
        if world.is_open() {
            "; any other user exists too, unless its ID begins with `nobody`"
        } else {
            ""
        }
    );
    let (secret, other) = match &settings.secret_file {
        Some(path) => (
            format!("ZIM_SERVER_SECRET_FILE={}", shell_word(path)),
            "ZIM_SERVER_SECRET",
        ),
        // Not secret: it is printed in ZEGO's documentation.
        None => (
            format!("ZIM_SERVER_SECRET={}", options.server_secret.expose_secret()),
            "ZIM_SERVER_SECRET_FILE",
        ),
    };
    print_note(&format!(
        "simulating ZIM at http://{address}/ ({contents}). To use it from another terminal:\n  \
         export ZIM_ENDPOINT=http://{address} ZIM_APP_ID={}\n  export {secret}\n  unset {other}\nPress Ctrl-C to stop.",
        options.app_id,
    ));
    let stop = StopHandle::new();
    let stats = tokio::select! {
        stats = simulator::serve(listener, world, options, events, stop.stopping()) => stats,
        () = signals::watch(&stop, signals::StatusSignal::none(), |_| (), || ()) => unreachable!("it never completes"),
    };
    let stats = stats.map_err(|error| Error::Unexpected(format!("the simulator failed: {error}")))?;
    let json = to_json(&stats)?;
    match settings.events {
        // Only events are written to stdout.
        Some(path) if path == Path::new("-") => print_note(&json),
        _ => match signals::unless_signaled(move || print(&format!("{json}\n"))).await {
            Ok(printed) => _ = printed?,
            Err(signal) => return Ok(ExitStatus::Signal(signal).into()),
        },
    }
    Ok(ExitCode::SUCCESS)
}

fn open_events(path: &Path) -> Result<Box<dyn Write + Send>, Error> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdout()));
    }
    let file = OpenOptions::new().create(true).append(true).mode(OWNER_ONLY).open(path);
    match file.and_then(|file| files::check_owner(path, &file).map(|()| file)) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) => Err(Error::Usage(format!(
            "{} (--events): can't be written: {error}; choose a file that this user can write",
            path.display()
        ))),
    }
}
