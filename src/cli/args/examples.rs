//! The examples at the end of each help. A test runs those with a simulator, and another parses all of them.

pub const FIRST_STEPS: &str = "\
First steps:

Users are a CSV file, here users.csv, with a user in each record:
  user
  alice
  bob

Try it with a private simulator, without credentials, and look at the report:
  zim-batch clear --users users.csv --report trial.csv --simulate
  zim-batch report trial.csv

With your app (AppId and ServerSecret are in the ZEGO console), check which users exist, then run the job:
  export ZIM_APP_ID=1234567890 ZIM_SERVER_SECRET_FILE=secret
  zim-batch check users.csv --online
  zim-batch clear --users users.csv --report out.csv

If you know the conversations, rows are a CSV file with user, conversation and type: see zim-batch clear --help.

Settings can also be in a profile (--profile NAME): see zim-batch config --help. More examples: zim-batch clear --help.";

pub const EXIT_STATUS: &str = "\
Exit status:
  0    every row was answered
  1    unexpected error
  2    a flag, a variable or a path is wrong; nothing was sent
  3    finished; some rows are failed or invalid
  4    the input can't be read, or doesn't match the report
  5    stopped by a policy, such as --give-up-after
  6    ZIM rejects the app, secret or signature, or a certificate is not trusted
  7    --max-duration or --until was reached
  74   the report can't be written
  75   another run is writing the report, or (--no-wait) uses the quota
  129, 130, 143  stopped by SIGHUP, SIGINT, SIGTERM

The last lines of a stopped run say why, and which command continues it.";

pub const CLEAR: &str = "\
Examples:

Try it with a private simulator, without credentials:
  zim-batch clear rows.csv --report out.csv --simulate

List users and clear what is listed:
  export ZIM_APP_ID=1234567890 ZIM_SERVER_SECRET_FILE=secret
  zim-batch clear --users users.csv --report out.csv --region fra

Resume it, however it ended:
  zim-batch clear --users users.csv --report out.csv --region fra --resume

Every night: what was updated since the last run that left nothing to do; print nothing if all succeeded:
  zim-batch clear --users users.csv --report out.csv --since last --resume -q

Clear rows:
  zim-batch clear rows.csv --report out.csv

Until 6 o'clock, slower by day, with exit status 0 also when rows are left for the next night:
  zim-batch clear rows.csv --report out.csv --resume \\
    --until 06:00 --rate 08:00=5,22:00=20 --exit-ok 7

With app, secret file and region from a profile:
  zim-batch clear rows.csv --report out.csv --profile night

Send the failed rows again:
  zim-batch clear out.csv --only failed --report out.retry.csv

Send the rows outside the newest 1000 again, after ZEGO has raised the limit:
  zim-batch clear out.csv --only outside --report out.second.csv

The secret is read from a file or from the environment (ZIM_SERVER_SECRET). No flag takes it, because other users of the \
machine can read command lines.

Ctrl-C stops after the requests in flight, a second Ctrl-C immediately. SIGUSR1 prints the progress.";

pub const LIST: &str = "\
Examples:

Try it with a private simulator, without credentials:
  zim-batch list users.csv --rows rows.csv --simulate

List, look at the rows, then clear them:
  export ZIM_APP_ID=1234567890 ZIM_SERVER_SECRET_FILE=secret
  zim-batch list users.csv --rows rows.csv
  zim-batch clear rows.csv --report out.csv

Every night: what was updated since the last run that left nothing to do; print nothing if all succeeded:
  zim-batch list users.csv --rows rows.csv --since last --resume -q

Why rows were outside: missing, or beyond the newest 1000:
  zim-batch list out.outside.csv --explain why.csv

One request lists up to 500 conversations of a user, so 100 000 users take at least 84 minutes at 20 requests per second.";

pub const CODES: &str = "\
Each code belongs to a class, which decides what a run does:
  ok         the row is done
  outside    the conversation is out of reach: written to the outside log
  transient  the row is retried with increasing delays
  limited    the whole run slows down, then the row is retried
  signature  signed again and retried; if it is refused again, the run stops
  app        retried a few times; if it is refused again, the run stops
  rejected   the row fails immediately
  fatal      the run stops immediately
  unknown    retried at most twice, then the row fails

In a Chinese locale (LC_ALL, LC_MESSAGES or LANG), this command and report explain codes in Chinese.

Examples:
  zim-batch codes
  zim-batch codes 660800002 7";

pub const CHECK: &str = "\
Examples:
  zim-batch check rows.csv
  zim-batch check rows.csv --json
  zim-batch check rows.csv --online --missing missing.csv
  zim-batch check users.csv --online
  zim-batch check export.txt --delimiter '|' \\
    --columns user=uid,conv=peer,type=kind

Without --online, nothing is sent and no app is needed. Rate, limit and end only tell how long a run would take.";

pub const COMPLETIONS: &str = "\
Examples:

In the current shell:
  source <(zim-batch completions bash)

Permanently, for bash (with the package bash-completion) and fish:
  zim-batch completions bash \\
    > ~/.local/share/bash-completion/completions/zim-batch
  zim-batch completions fish \\
    > ~/.config/fish/completions/zim-batch.fish

For zsh, to a directory in $fpath:
  zim-batch completions zsh > ~/.zfunc/_zim-batch

The script asks the program, so write it again after an upgrade.";

pub const SIMULATE: &str = "\
Examples:

Run the simulator, and print the events that clients would receive:
  zim-batch simulate --port 8080 --events -

Use it from another terminal:
  export ZIM_ENDPOINT=http://127.0.0.1:8080 ZIM_APP_ID=12345
  export ZIM_SERVER_SECRET=9193cc662a4c0ec135ec71fb57194b38
  zim-batch clear rows.csv --report out.csv

With conversations of your own, errors and an outage:
  zim-batch simulate --conversations world.csv --error-rate 0.02 \\
    --outage 30s/15s";

pub const REPORT: &str = "\
Examples:
  zim-batch report out.csv
  zim-batch report out.csv --rows rows.csv
  zim-batch report out.csv --html out.html
  zim-batch report out.csv --json
  zim-batch report out.csv --only failed --csv failed.csv

A report and its retries as one, to see what is left:
  zim-batch report out.csv out.retry.csv";

pub const QUOTA: &str = "\
Examples:

Who shares the app's quota, and how fast are they?
  zim-batch quota --app-id 1234567890

At most 5 requests per second for the next two hours, all runs together:
  zim-batch quota --app-id 1234567890 --limit 5 --for 2h

Pause all runs; they wait until the limit is ended or changed:
  zim-batch quota --profile night --limit 0
  zim-batch quota --profile night --limit off

Use the directory or server through which the runs share the quota. No secret is needed. Runs \
follow with their next start, through a server within a second, and say so in their log and progress. A pause is no \
outage: no run gives up because of it. A limit is kept for runs that start later.";

pub const CONFIG: &str = "\
Examples:
  zim-batch config
  zim-batch config --profile night --rate 10

A profile is a table in $XDG_CONFIG_HOME/zim-batch/config.toml (or ~/.config/zim-batch/config.toml):
  [profiles.night]
  app_id = 1234567890
  secret_file = \"~/.secrets/zim\"  # or relative to this file
  region = \"fra\"                  # or endpoint = \"https://…\"
  rate = 20                       # or \"08:00=5,22:00=20\"

Further keys: ca_cert (a file), quota (a URL), until (\"06:00\"), exit_ok (\"3,7\"). Choose the profile with --profile night or ZIM_PROFILE=night; without \
either, [profiles.default] is used if there is one. Flags take precedence over environment variables, and these over the \
profile.";

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use crate::cli::args::Cli;

    /// The calls of this program in a help text, each as its words. A call ends at a pipe or a redirection.
    fn calls(help: &str) -> Vec<Vec<String>> {
        let text = help.replace("\\\n", " ");
        let lines = text
            .lines()
            .filter(|line| line.starts_with("  ") && line.contains("zim-batch "));
        let parts = lines
            .flat_map(|line| line.split([')', '(']))
            .flat_map(|line| line.split(" | "));
        let calls = parts.filter_map(|part| part.trim().strip_prefix("zim-batch "));
        calls
            .map(|call| {
                let call = call.split(" > ").next().unwrap_or(call);
                let words = call.split_whitespace().map(|word| word.trim_matches('\'').to_owned());
                std::iter::once("zim-batch".to_owned()).chain(words).collect()
            })
            .collect()
    }

    #[test]
    fn every_example_is_a_valid_call() {
        let command = Cli::command();
        let helps = std::iter::once(&command).chain(command.get_subcommands());
        let mut parsed = 0;
        for help in helps.filter_map(|command| command.get_after_help()) {
            for call in calls(&help.to_string()) {
                if let Err(error) = Cli::try_parse_from(&call) {
                    panic!("{call:?}: {error}");
                }
                parsed += 1;
            }
        }
        assert!(parsed >= 30, "{parsed}");
    }
}
