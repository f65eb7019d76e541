//! The input: where it is, and how it is read.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use zim_batch::rows::{Columns, Encoding, Types};

use super::values::{self, OnlyWord, offering};
use crate::cli::errors::redact::parse_without_secret;

/// How to read the input
#[derive(Debug, Clone, Args)]
pub struct DialectArgs {
    /// Delimiter, if it can't be detected from the header line: one character, or 'tab'
    #[arg(long, value_name = "CHAR", value_parser = values::delimiter)]
    pub delimiter: Option<u8>,
    /// Encoding: a WHATWG label or a code page, such as gbk, cp936 or windows-1252 [default: UTF-8, or UTF-16 with a byte
    /// order mark]
    #[arg(long, value_name = "NAME", hide_possible_values = true)]
    #[arg(value_parser = offering(values::encoding, values::COMMON_ENCODINGS))]
    pub encoding: Option<&'static Encoding>,
    /// If the input is an earlier report: process only rows with these outcomes (comma-separated)
    #[arg(long, value_name = "OUTCOME", value_delimiter = ',')]
    #[arg(value_parser = offering(values::only, values::outcomes()))]
    pub only: Option<Vec<OnlyWord>>,
    /// Don't exit with status 3 because of invalid records
    #[arg(long)]
    pub ignore_invalid: bool,
}

/// How to read rows
#[derive(Debug, Clone, Args)]
pub struct RowFormatArgs {
    #[command(flatten)]
    pub dialect: DialectArgs,
    /// Which columns to read, by header name or by number from 1: user=A,conv=B,type=C or user=2,conv=5,type=3
    #[arg(long, value_name = "MAP", value_parser = parse_without_secret::<Columns>)]
    pub columns: Option<Columns>,
    /// Additional words for the types: single=0,room=2
    #[arg(long, value_name = "MAP", value_parser = parse_without_secret::<Types>)]
    pub types: Option<Types>,
    /// Send repeated rows (same user, conv and type) only once
    #[arg(long)]
    pub dedupe: bool,
}

/// Where the rows are, and how to read them
#[derive(Debug, Clone, Args)]
pub struct RowsArgs {
    /// CSV file with a user, a conversation and a type (0 or peer, 2 or group) in each row, or with a user in each record; -
    /// for standard input
    #[arg(value_name = "ROWS")]
    pub rows: PathBuf,
    #[command(flatten)]
    pub format: RowFormatArgs,
}

/// What is cleared: rows, or the conversations of users
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("input").args(["rows", "users"]).required(true)))]
pub struct ClearInputArgs {
    /// CSV file with a user, a conversation and a type (0 or peer, 2 or group) in each row; - for standard input
    #[arg(value_name = "ROWS")]
    rows: Option<PathBuf>,
    /// Instead of ROWS: CSV file with a user in each record; lists the users and clears what is listed, in one run; - for
    /// standard input
    #[arg(long, value_name = "USERS", conflicts_with_all = ["types", "dedupe"])]
    users: Option<PathBuf>,
    #[command(flatten)]
    format: RowFormatArgs,
}

/// What `clear` is given.
pub enum RowsOrUsers {
    Rows(RowsArgs),
    Users(UsersArgs),
}

impl ClearInputArgs {
    pub fn rows_or_users(self) -> RowsOrUsers {
        let ClearInputArgs { rows, users, format } = self;
        match users {
            Some(users) => RowsOrUsers::Users(UsersArgs {
                users,
                dialect: format.dialect,
                columns: format.columns,
            }),
            None => RowsOrUsers::Rows(RowsArgs {
                rows: rows.unwrap_or_default(),
                format,
            }),
        }
    }
}

/// Where the users are, and how to read them
#[derive(Debug, Clone, Args)]
pub struct UsersArgs {
    /// CSV file with a user in each record, such as a list of users, rows, or a report; - for standard input
    #[arg(value_name = "USERS")]
    pub users: PathBuf,
    #[command(flatten)]
    pub dialect: DialectArgs,
    /// Which column has the users, by header name or by number from 1: user=A or user=2 [default: the column with a usual
    /// name, else the first]
    #[arg(long, value_name = "MAP", value_parser = parse_without_secret::<Columns>)]
    pub columns: Option<Columns>,
}
