"""How much a file from outside may become: the one place where these bounds are declared.

They hold wherever the library reads what others wrote, in a notebook too. The memory and time of a whole job are
limited besides, in ``jobs/runner/limits.py``, for what no look at a file can foresee.
"""

from __future__ import annotations

# Any packed file. What is honest packs to a tenth, or a fiftieth where rows repeat; deflate itself ends at 1,032.
MAX_RATIO = 200  # bytes unpacked for each byte packed
RATIO_FLOOR = 64 * 2**20  # bytes that anything may unpack to, however well it was packed

SPARE_DISK_BYTES = 2**30  # left free while something is taken in: the database must be able to write

# Files of a corpus
MAX_BYTES = 2 * 2**30  # of one file, as it lies there and unpacked
MAX_ROWS = 10_000_000  # of one corpus, refused ones included
MAX_LINES = 100_000_000  # of one text file, blank ones included
MAX_ROW_CHARACTERS = 4 * 2**20  # of one row as it is read; a longer one is refused and passed over unread
MAX_CHARACTERS = 200_000  # of one example; longer ones are refused
MAX_LABEL_CHARACTERS = 1_000  # of one label
MAX_LABELS = 1_000  # different ones that are counted; more are no kinds of task
MAX_COLUMNS = 1_000
MAX_NAME_CHARACTERS = 200  # of a column's name
MAX_DEPTH = 64  # of objects and lists in each other
MAX_REJECTED_KEPT = 10_000  # rejected rows listed with their reasons; beyond, only counted

# A JSON file that is one value is read whole. A mark is one of `,:[{`: no more values than that can come out of it,
# and each costs about 100 bytes of memory.
MAX_JSON_BYTES = 256 * 2**20
MAX_JSON_MARKS = 10_000_000

# Parquet
MAX_FOOTER_BYTES = 8 * 2**20  # schema and places of columns
MAX_FOOTER_ITEMS = 100_000  # of one list in the footer: row groups, parts of the schema
MAX_CELL_VALUES = 100_000  # of a column for one row, on average
PARQUET_BATCH_ROWS = 32  # read at once: few, since a cell may be written once and mean a million rows
MAX_BATCH_BYTES = 256 * 2**20  # of such a batch, as Python objects

# Packed and binary files of a corpus
MAX_XZ_MEMORY = 256 * 2**20  # of the dictionary that an xz file asks for
MAX_MEMBERS = 10_000  # of one archive or folder, those passed over included
MAX_ARCHIVE_BYTES = 8 * 2**30  # of all members of an archive or folder, unpacked
MAX_LISTING_BYTES = 8 * 2**20  # in which a zip lists its members
MAX_DOCUMENT_BYTES = 32 * 2**20  # of one HTML page, or of one part of a DOCX or EPUB, which are read whole
MAX_PAGE_DEPTH = 1_000  # of elements in each other in an HTML page: reading one takes time by the square of it
MAX_OPEN_FORMATS = 50  # of unlike formatting elements left open: a parser opens all of them again in every block
MAX_COPIED_FORMATS = 1_000_000  # of these elements, opened again in all blocks of a page
MAX_ATTRIBUTES = 1_000  # of one element: a parser compares each with all others
MAX_CHAPTERS = 10_000  # of an EPUB, one that is named again counted again
MAX_PAGES = 10_000  # of a PDF
MAX_SHEET_BYTES = 512 * 2**20  # of a workbook unpacked, which is read whole
MAX_SHEET_CELLS = 20_000_000  # of one sheet from its first to its last cell, empty ones included

# Adapters
MAX_CONFIG_BYTES = 4 * 2**20  # of a configuration
MAX_WEIGHTS_BYTES = 16 * 2**30
MAX_WEIGHTS_RATIO = 50  # trained weights hardly pack at all; heads that are still zero pack to half
MAX_ARCHIVE_ENTRIES = 10_000
