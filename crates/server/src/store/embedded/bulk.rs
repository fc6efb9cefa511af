//! Inserting many rows with few statements.
//!
//! Beginning and ending a statement costs SQLite more than making and placing a row, and so does
//! keeping the pages that a statement of many rows changes first, by which it could be undone. So
//! rows are inserted 64 at a time, what is left 8 at a time, and only the last few one by one.
//!
//! Absent here: what the columns are; see [`super::row`].

use rusqlite::{Connection, Statement, ToSql};

/// Rows that one statement inserts: as many as there are, largest first.
const ROWS_AT_ONCE: [usize; 3] = [64, 8, 1];

/// The statements that fill one table.
pub struct Insert {
    statements: [String; ROWS_AT_ONCE.len()],
}

impl Insert {
    /// For `table`, with values for all of its `columns`.
    #[must_use]
    pub fn into(table: &str, columns: usize) -> Insert {
        let row = format!("({})", vec!["?"; columns].join(","));
        let insert = |count: usize| {
            let rows = vec![&*row; count].join(",");
            format!("INSERT INTO {table} VALUES {rows}")
        };
        Insert {
            statements: ROWS_AT_ONCE.map(insert),
        }
    }

    /// Inserts `rows`, in order; `bind` binds the columns of one, in order.
    ///
    /// # Errors
    /// SQLite's.
    pub fn all<T>(
        &self,
        connection: &Connection,
        mut rows: &[T],
        mut bind: impl FnMut(&mut Binder<'_, '_>, &T) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        for (sql, at_once) in self.statements.iter().zip(ROWS_AT_ONCE) {
            let (now, later) = rows.split_at(rows.len() - rows.len() % at_once);
            rows = later;
            if now.is_empty() {
                continue;
            }
            let mut statement = connection.prepare_cached(sql)?;
            for group in now.chunks(at_once) {
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
        for count in [0, 1, 7, 8, 9, 63, 64, 65, 200] {
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
