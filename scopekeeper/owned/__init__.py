"""Owned paths: what was handed over with ``--own`` is removed when its last user is gone.

``claim`` and ``plan`` are pure; ``store`` keeps one file a claim; ``check`` says what may be owned;
``users`` sees who uses a path; ``tree`` removes; ``launch`` and ``handover`` make claims;
``release`` removes what is due, and is what to call whenever something has ended.
"""
