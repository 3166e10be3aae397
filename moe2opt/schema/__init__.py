"""Strict configuration files: typed sections, YAML with positions, errors that show the line."""

from moe2opt.schema.names import FileName as FileName
from moe2opt.schema.names import Name as Name
from moe2opt.schema.overrides import apply_overrides as apply_overrides
from moe2opt.schema.overrides import parse_override as parse_override
from moe2opt.schema.paths import inside as inside
from moe2opt.schema.reader import read_file as read_file
from moe2opt.schema.reader import read_text as read_text
from moe2opt.schema.rebuild import rebuilt as rebuilt
from moe2opt.schema.rivals import NamedPlan as NamedPlan
from moe2opt.schema.rivals import rivals_of as rivals_of
from moe2opt.schema.section import Section as Section
from moe2opt.schema.source import Complaint as Complaint
from moe2opt.schema.source import ConfigError as ConfigError
from moe2opt.schema.source import Document as Document
from moe2opt.schema.translate import complaint_about as complaint_about
from moe2opt.schema.translate import validate as validate
