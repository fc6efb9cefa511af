//! Inserting many rows with few statements.
//!
//! Beginning and ending a statement costs SQLite about as much as making and placing a row of
//! twenty columns. So rows are inserted sixteen at a time, and one by one only at the end.
//!
//! Absent here: what the columns are; see [`super::row`].

use rusqlite::{Connection, Statement, ToSql};

/// Rows that one statement inserts.
const ROWS_AT_ONCE: usize = 16;

/// The statements that fill one table.
pub struct Insert {
    one: String,
    many: String,
}

impl Insert {
    /// For `table`, with values for all of its `columns`.
    #[must_use]
    pub fn into(table: &str, columns: usize) -> Insert {
        let row = format!("({})", vec!["?"; columns].join(","));
        // With the usual ABORT, a statement of many rows would keep a journal of its own to undo
        // them by. A row that is there already ends the whole transaction anyway.
        let insert = |rows: &str| format!("INSERT OR ROLLBACK INTO {table} VALUES {rows}");
        Insert {
            many: insert(&vec![&*row; ROWS_AT_ONCE].join(",")),
            one: insert(&row),
        }
    }

    /// Inserts `rows`, in order; `bind` binds the columns of one, in order.
    ///
    /// # Errors
    /// SQLite's.
    pub fn all<T>(
        &self,
        connection: &Connection,
        rows: &[T],
        mut bind: impl FnMut(&mut Binder<'_, '_>, &T) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let (many, few) = rows.split_at(rows.len() - rows.len() % ROWS_AT_ONCE);
        for (sql, rows, at_once) in [(&self.many, many, ROWS_AT_ONCE), (&self.one, few, 1)] {
            if rows.is_empty() {
                continue;
            }
            let mut statement = connection.prepare_cached(sql)?;
            for group in rows.chunks(at_once) {
                let mut binder = Binder::new(&mut statement);
                for row in group {
                    bind(&mut binder, row)?;
                }
                statement.raw_execute()?;
            }
        }
        Ok(())
    }
}

/// Binds the parameters of a statement one after the other.
pub struct Binder<'s, 'c> {
    statement: &'s mut Statement<'c>,
    next: usize,
}

impl<'s, 'c> Binder<'s, 'c> {
    /// Begins with the first one.
    pub fn new(statement: &'s mut Statement<'c>) -> Binder<'s, 'c> {
        Binder { statement, next: 1 }
    }

    /// Binds the next one.
    ///
    /// # Errors
    /// SQLite's.
    pub fn put(&mut self, value: impl ToSql) -> rusqlite::Result<()> {
        self.statement.raw_bind_parameter(self.next, value)?;
        self.next += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_arrives_in_order_whatever_their_number() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)")
            .unwrap();
        let insert = Insert::into("t", 2);
        let mut all: Vec<i64> = Vec::new();
        for count in [0, 1, 15, 16, 17, 33] {
            let first = all.len() as i64 + 1;
            let rows: Vec<i64> = (first..first + count).collect();
            insert
                .all(&db, &rows, |binder, id| {
                    binder.put(id)?;
                    binder.put(format!("row {id}"))
                })
                .unwrap();
            all.extend(rows);
            let mut select = db.prepare("SELECT id, name FROM t ORDER BY rowid").unwrap();
            let read = select
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
                .unwrap();
            let read: Vec<(i64, String)> = read.collect::<Result<_, _>>().unwrap();
            let wanted: Vec<_> = all.iter().map(|id| (*id, format!("row {id}"))).collect();
            assert_eq!(read, wanted);
        }
    }
}
