"""`session.widget()` and `kan.show()`: a network in a notebook, to edit where anywidget is installed."""

import sys
from typing import TYPE_CHECKING, Any

from kanserve.editing import Session
from kanserve.editing.step_fields import whole_number
from kanserve.errors import KanserveError, MissingDependencyError, NotFoundError
from kanserve.formula import formulas
from kanserve.network.kan import Kan
from kanserve.plot.live_progress import display, in_notebook, show_html
from kanserve.plot.notebook import network_page
from kanserve.studio.opened_model import Opened, draw_rows

if TYPE_CHECKING:
    from kanserve.studio.notebook_widget import StudioWidget

WIDGET_HEIGHT = 720  # of the studio in a cell of a notebook, in pixels
TEXT_OPERATIONS = 200  # of the formulas that `kan.show()` prints outside of notebooks


def session_widget(
    session: Session, height: int | None = None, repository: str = "", name: str = "", drawn: bool = False
) -> "StudioWidget":
    """The studio on a session; `drawn` says that its data are drawn rows with the network's own answers."""
    tall = whole_number(WIDGET_HEIGHT if height is None else height, "height", 300, 4000)
    try:
        from kanserve.studio.notebook_widget import StudioWidget
    except ImportError as error:
        raise MissingDependencyError(error.name or "anywidget", "notebook") from None
    title = name or "network"
    opened = Opened(session.first, title, session.rows.given, drawn=drawn, repository=repository, name=name)
    return StudioWidget(session, opened, tall)


def show_network(kan: Kan, data: Any = None, height: int | None = None) -> None:
    """Show a network where this runs: as a widget, as its picture, or outside of notebooks as text."""
    if not in_notebook():
        print(_text(kan))
        return
    try:
        session = Session(kan, draw_rows(kan) if data is None else data)
        widget = session_widget(session, height, drawn=data is None)
    except (MissingDependencyError, NotFoundError) as error:  # no anywidget, or a checkout whose page is not built
        print(f"{error} Until then, this is its picture.", file=sys.stderr)
        show_html(network_page(kan))
        return
    display(widget)


def _text(kan: Kan) -> str:
    try:
        found = [f"{formula.name} = {formula.text}" for formula in formulas(kan, limit=TEXT_OPERATIONS, strict=False)]
    except KanserveError as error:
        found = [str(error)]
    return "\n".join([repr(kan), *found])
