"""How every shipped file was made: one module a file, run as ``python -m interp.recipes.NAME FOLDER``.

A recipe is a frozen dataclass that decides the result together with the code. Its training folder lies outside of the
package; a run that was stopped goes on where it stopped.
"""
