//! The database of a service: SQLite in a file of its own, or PostgreSQL when
//! there is more than one of the service.
//!
//! One variable says which, and the same SQL runs on both: tables of text and
//! whole numbers, `$1` for arguments, `ON CONFLICT DO NOTHING`. sqlx calls that
//! its `Any` driver; what it costs beside a driver of one database is a copy of
//! each row.
//!
//! SQLite writes ahead (WAL), so that readers do not wait for the writer, and
//! waits for the disk at each commit (`synchronous=FULL`): what was answered as
//! stored is still there after the power went.

use std::{
    borrow::Cow,
    fmt, fs, io,
    ops::{Deref, DerefMut},
    path::Path,
    str::FromStr,
    time::Duration,
};

use sqlx::{
    Any, AnyConnection, AnyPool, Connection as _, Executor as _, SqlSafeStr as _,
    any::{AnyPoolOptions, install_default_drivers},
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    pool::PoolConnection,
};
use tokio::{runtime::Handle, time::timeout};

use crate::{StartError, settings::masked};

/// How long a query may wait for a connection. The deadline of its call is
/// shorter; this is for calls without one.
const CONNECTION_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a database may take to answer a statement, and then to say that the
/// connection is good for the next. PostgreSQL itself gives up after 5 s
/// ([`POSTGRES_LIMITS`]): after this long it is not there. One that vanished says
/// nothing, and TCP would wait for it for a quarter of an hour.
const ANSWER_MAX: Duration = Duration::from_secs(6);
/// How long a database that has not been reached may take to say why.
const REASON_MAX: Duration = Duration::from_secs(2);
/// How long it may take to bring the schema up to date. The steps of a service
/// take milliseconds; the rest is for others that start at the same time.
const SCHEMA_MAX: Duration = Duration::from_secs(30);
/// Readers of a SQLite file at once. Each is a thread.
const SQLITE_CONNECTIONS: u32 = 4;
/// Connections of one process to PostgreSQL, which has 100 for all by default.
const POSTGRES_CONNECTIONS: u32 = 16;

/// Said to each new connection to a SQLite file.
const SQLITE_PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                              PRAGMA busy_timeout = 5000";
/// Said to each new connection to PostgreSQL: no query of a service takes long,
/// and none may wait for ever behind another process.
const POSTGRES_LIMITS: &str = "SET statement_timeout = '5s'; SET lock_timeout = '5s'";

/// Where the data is: `sqlite:PATH`, `sqlite::memory:` or `postgres://...`.
///
/// Shown without its password, wherever it is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

/// One step of a schema: its number, its name, its SQL. What has been released
/// is never changed: the next step has the next number.
pub type Step = (i64, &'static str, &'static str);

impl DatabaseUrl {
    /// A database in memory, gone with its service: what a test wants.
    #[must_use]
    pub fn memory() -> Self {
        Self("sqlite::memory:".to_owned())
    }

    /// A SQLite file, which is made when it is not there.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        Self(format!("sqlite:{}", path.display()))
    }

    fn kind(&self) -> Kind<'_> {
        match self.0.strip_prefix("sqlite:") {
            Some(":memory:") => Kind::Memory,
            Some(path) => Kind::File(path.strip_prefix("//").unwrap_or(path)),
            None => Kind::Postgres,
        }
    }
}

enum Kind<'a> {
    Memory,
    File(&'a str),
    Postgres,
}

impl FromStr for DatabaseUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = "must be sqlite:PATH (a path without ?, #, % and :), sqlite::memory: or \
                       postgres://user@host/database";
        let url = Self(text.to_owned());
        let fits = match url.kind() {
            Kind::Memory => true,
            Kind::File(path) => !path.is_empty() && !path.contains(['?', '#', '%', ':']),
            Kind::Postgres => ["postgres://", "postgresql://"]
                .iter()
                .any(|scheme| text.strip_prefix(scheme).is_some_and(|it| !it.is_empty())),
        };
        if fits { Ok(url) } else { Err(refused) }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(&self.0))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Opens the database, makes it when it is a file that is not there, and brings
/// its schema up to `steps`.
///
/// # Errors
/// [`StartError::Database`], which names `DATABASE_URL`: it cannot be reached or
/// written, or its schema is one that `steps` do not know.
pub async fn open(url: &DatabaseUrl, steps: &[Step]) -> Result<AnyPool, StartError> {
    let failed = |error: &dyn fmt::Display| StartError::database(url, error);
    install_default_drivers();
    let options = AnyPoolOptions::new().acquire_timeout(CONNECTION_WAIT_MAX);
    let (options, address, first) = match url.kind() {
        // The database is its one connection, which must neither be closed nor
        // have a second beside it.
        Kind::Memory => {
            let options = options
                .max_connections(1)
                .min_connections(1)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false);
            (options, Cow::from(&url.0), "")
        }
        Kind::File(path) => {
            make_folder_of(path).map_err(|error| failed(&error))?;
            let options = options
                .max_connections(SQLITE_CONNECTIONS)
                .test_before_acquire(false);
            let address = address_of(path).into();
            (options, address, SQLITE_PRAGMAS)
        }
        Kind::Postgres => {
            let options = options.max_connections(POSTGRES_CONNECTIONS);
            (options, Cow::from(&url.0), POSTGRES_LIMITS)
        }
    };
    let opened = options
        .after_connect(move |connection, _| {
            Box::pin(async move {
                if !first.is_empty() {
                    connection.execute(first).await?;
                }
                Ok(())
            })
        })
        .connect(&address)
        .await;
    let pool = match opened {
        Ok(pool) => pool,
        Err(late @ sqlx::Error::PoolTimedOut) => {
            return Err(failed(&reason(late, &address).await));
        }
        Err(error) => return Err(failed(&error)),
    };
    match timeout(SCHEMA_MAX, bring_up(&pool, &url.kind(), steps)).await {
        Ok(brought) => brought.map_err(|error| failed(&error))?,
        Err(_) => {
            let late = format!("its schema was not up to date within {SCHEMA_MAX:?}");
            return Err(failed(&late));
        }
    }
    Ok(pool)
}

/// Brings the schema up to `steps`: one service after the other, when several
/// start at once.
async fn bring_up(pool: &AnyPool, kind: &Kind<'_>, steps: &[Step]) -> Result<(), MigrateError> {
    let migrator = migrator(steps);
    match kind {
        // sqlx takes a lock, which others wait for.
        Kind::Postgres => migrator.run(pool).await,
        // Here its lock does nothing. So the file is taken for writing before it is
        // read: whoever comes second waits (`busy_timeout`), and finds all done.
        Kind::File(_) | Kind::Memory => {
            let mut connection = pool.acquire().await?;
            let mut all = connection.begin_with("BEGIN IMMEDIATE").await?;
            // What `run` does (its documentation does not show it), of which the compiler
            // cannot tell that it may be sent to another thread.
            migrator.run_direct(None, &mut *all, false).await?;
            all.commit().await?;
            Ok(())
        }
    }
}

/// A path as sqlx is told it.
///
/// sqlx reads an address as a URL, in which a folder is a host, `..` is resolved by
/// the text alone, and `?` ends the path. With everything else escaped, slashes
/// too, it is one opaque word to that, and sqlx unescapes it to what it was.
fn address_of(path: &str) -> String {
    let mut address = "sqlite:".to_owned();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                address.push(char::from(byte));
            }
            _ => address.push_str(&format!("%{byte:02X}")),
        }
    }
    address + "?mode=rwc"
}

/// Why there was no connection in time. The pool tries again while it waits, and
/// says only that it waited; so one more attempt is made, to hear the reason.
async fn reason(late: sqlx::Error, address: &str) -> sqlx::Error {
    match timeout(REASON_MAX, AnyConnection::connect(address)).await {
        Ok(Err(error)) => error,
        Ok(Ok(_)) | Err(_) => late,
    }
}

/// A connection from a pool, for one or more statements, each within
/// [`answer`].
///
/// Dropped, it goes back to the pool, once it has shown that it is good for the
/// next; what does not within 6 s is closed. sqlx by itself would wait without a
/// bound, and hold one of few places meanwhile.
#[derive(Debug)]
pub struct Lent {
    connection: PoolConnection<Any>,
    /// The database is this connection, and nothing lies between.
    memory: bool,
}

impl Lent {
    /// The next connection that is free.
    ///
    /// # Errors
    /// sqlx's: there is none within 5 s.
    pub async fn from(pool: &AnyPool) -> sqlx::Result<Self> {
        Ok(Self {
            connection: pool.acquire().await?,
            memory: pool.options().get_max_lifetime().is_none(),
        })
    }
}

impl Deref for Lent {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.connection
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.connection
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // What sqlx does when it is dropped (its documentation does not show it), as
        // something that can be given up: then it is closed, and its place is free.
        let returned = self.connection.return_to_pool();
        let memory = self.memory;
        // Without a runtime it is closed at once.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                if memory {
                    returned.await;
                } else if timeout(ANSWER_MAX, returned).await.is_err() {
                    tracing::warn!("closed a connection on which the database is silent");
                }
            });
        }
    }
}

/// What the database answers to `statement`.
///
/// # Errors
/// Those of `statement`; and [`sqlx::Error::Io`], when there is no answer within
/// 6 s.
pub async fn answer<T>(statement: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    timeout(ANSWER_MAX, statement).await.unwrap_or_else(|_| {
        let late = format!("no answer within {ANSWER_MAX:?}");
        Err(io::Error::new(io::ErrorKind::TimedOut, late).into())
    })
}

fn make_folder_of(path: &str) -> io::Result<()> {
    match Path::new(path).parent() {
        Some(folder) if !folder.as_os_str().is_empty() => fs::create_dir_all(folder),
        _ => Ok(()),
    }
}

fn migrator(steps: &[Step]) -> Migrator {
    let migration = |&(version, name, sql): &Step| {
        let sql = sql.into_sql_str();
        Migration::new(version, name.into(), MigrationType::Simple, sql, false)
    };
    Migrator::with_migrations(steps.iter().map(migration).collect())
}

#[cfg(test)]
mod tests {
    use sqlx::{query, query_scalar};

    use super::*;

    const STEPS: [Step; 1] = [(1, "words", "CREATE TABLE words (word TEXT PRIMARY KEY)")];

    #[test]
    fn a_database_is_named_by_its_kind() {
        for good in [
            "sqlite:data/a.db",
            "sqlite:///var/lib/a.db",
            "sqlite::memory:",
            "postgres://me:secret@host:5432/orders",
            "postgresql://host/orders",
        ] {
            assert!(good.parse::<DatabaseUrl>().is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "data/a.db",
            "sqlite:",
            "sqlite:a.db?mode=ro",
            "sqlite:a%20b.db",
            "postgres://",
            "mysql://host/orders",
            "host=db password=secret",
        ] {
            assert!(bad.parse::<DatabaseUrl>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let url: DatabaseUrl = "postgres://me:s3cret@host/orders?password=s3cret"
            .parse()
            .unwrap();
        assert_eq!(url.to_string(), "postgres://***@host/orders?password=***");
        assert!(!format!("{url:?}").contains("s3cret"));
    }

    #[tokio::test]
    async fn a_file_is_made_with_its_folder_and_keeps_what_it_was_told() {
        let place = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::file(&place.path().join("data/words.db"));
        let pool = open(&url, &STEPS).await.unwrap();
        query("INSERT INTO words VALUES ($1)")
            .bind("kept")
            .execute(&pool)
            .await
            .unwrap();
        pool.close().await;

        let again = open(&url, &STEPS).await.unwrap();
        let word: String = query_scalar("SELECT word FROM words")
            .fetch_one(&again)
            .await
            .unwrap();
        let durable: i64 = query_scalar("PRAGMA synchronous")
            .fetch_one(&again)
            .await
            .unwrap();
        assert_eq!((&*word, durable), ("kept", 2));
    }

    #[tokio::test]
    async fn a_file_is_where_its_path_says_whatever_stands_in_it() {
        let place = tempfile::tempdir().unwrap();
        // From the folder of the tests, upwards to that of the file.
        let here = std::env::current_dir().unwrap();
        let up = "../".repeat(here.components().count() - 1);
        let down = place.path().strip_prefix("/").unwrap().display();
        let root = place.path().display();
        for (path, file) in [
            (format!("{up}{down}/a.db"), "a.db"),
            (format!("{up}{down}/data/../b.db"), "b.db"),
            (format!("//{root}/data/../c.db"), "c.db"),
            (format!("{root}/d e/f.db"), "d e/f.db"),
            (format!("{root}/naïve\u{a0}.db "), "naïve\u{a0}.db "),
        ] {
            let url: DatabaseUrl = format!("sqlite:{path}").parse().unwrap();
            open(&url, &STEPS).await.unwrap();
            assert!(place.path().join(file).is_file(), "{path:?}");
        }
        // No setting, but a test may be in any folder.
        let odd = place.path().join("what? 100%25 #1: a.db");
        open(&DatabaseUrl::file(&odd), &STEPS).await.unwrap();
        assert!(odd.is_file());
    }

    #[test]
    fn several_may_start_at_once_on_a_new_file() {
        const STARTS: usize = 8;
        let steps = [STEPS[0], (2, "a word", "INSERT INTO words VALUES ('once')")];
        for _ in 0..10 {
            let place = tempfile::tempdir().unwrap();
            let url = DatabaseUrl::file(&place.path().join("shared.db"));
            let barrier = std::sync::Barrier::new(STARTS);
            let start = || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    barrier.wait();
                    open(&url, &steps).await.map(drop)
                })
            };
            std::thread::scope(|scope| {
                let starts: Vec<_> = (0..STARTS).map(|_| scope.spawn(start)).collect();
                for start in starts {
                    assert_eq!(
                        start.join().unwrap().map_err(|error| error.to_string()),
                        Ok(())
                    );
                }
            });
        }
    }

    #[tokio::test]
    async fn two_in_memory_are_two() {
        let one = open(&DatabaseUrl::memory(), &STEPS).await.unwrap();
        let other = open(&DatabaseUrl::memory(), &STEPS).await.unwrap();
        query("INSERT INTO words VALUES ('a')")
            .execute(&one)
            .await
            .unwrap();
        let count = "SELECT COUNT(*) FROM words";
        let counted: i64 = query_scalar(count).fetch_one(&other).await.unwrap();
        assert_eq!(counted, 0);
    }

    #[tokio::test]
    async fn queries_that_are_given_up_do_not_cost_the_database_in_memory() {
        let pool = open(&DatabaseUrl::memory(), &STEPS).await.unwrap();
        for round in 0..200 {
            let queries = (0..8).map(|at| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    let mut connection = Lent::from(&pool).await?;
                    let insert =
                        query("INSERT INTO words VALUES ($1)").bind(format!("{round}-{at}"));
                    answer(insert.execute(&mut *connection)).await.map(drop)
                })
            });
            let queries: Vec<_> = queries.collect();
            // Each time at another moment.
            for _ in 0..round % 20 {
                tokio::task::yield_now().await;
            }
            queries.iter().for_each(tokio::task::JoinHandle::abort);
        }

        let insert = query("INSERT INTO words VALUES ('last')");
        insert.execute(&pool).await.unwrap();
        assert_eq!(pool.size(), 1);
    }

    #[tokio::test]
    async fn what_cannot_be_opened_is_one_line_that_names_the_variable() {
        let schema_of_the_future = [(9, "later", "CREATE TABLE later (at BIGINT)")];
        let place = tempfile::tempdir().unwrap();
        let newer = DatabaseUrl::file(&place.path().join("newer.db"));
        open(&newer, &schema_of_the_future).await.unwrap();

        for url in [
            newer,
            DatabaseUrl::file(place.path()),
            "postgres://me:s3cret@127.0.0.1:1/orders".parse().unwrap(),
        ] {
            let error = open(&url, &STEPS).await.unwrap_err();
            let line = error.to_string();
            assert!(line.starts_with("DATABASE_URL="), "{line}");
            assert_eq!(line.lines().count(), 1, "{line}");
            assert!(!line.contains("s3cret"), "{line}");
            if line.contains("postgres") {
                assert!(line.to_lowercase().contains("refused"), "{line}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_statement_that_is_never_answered_fails() {
        let error = answer(std::future::pending::<sqlx::Result<()>>()).await;
        assert!(matches!(error, Err(sqlx::Error::Io(_))), "{error:?}");
    }
}
