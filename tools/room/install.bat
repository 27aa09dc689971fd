@echo off
rem Copies the project to FOLDER and installs it there, without a network: install.bat [FOLDER]
setlocal
set "room=%~dp0"
set "folder=%~1"
if "%folder%"=="" set "folder=%USERPROFILE%\instruction-fine-tuning"
py -@PYTHON@ --version >nul 2>nul
if errorlevel 1 (
  echo error: this room needs Python @PYTHON@
  exit /b 1
)
if exist "%folder%" (
  echo error: %folder% is there already: name another folder, install.bat FOLDER
  exit /b 1
)
py -@PYTHON@ "%room%check_room.py" || exit /b 1
xcopy /e /i /q "%room%project" "%folder%" >nul || exit /b 1
cd /d "%folder%" || exit /b 1
py -@PYTHON@ -m venv .venv || exit /b 1
.venv\Scripts\python -m pip install --quiet --disable-pip-version-check --no-index --find-links "%room%wheels" @PACKAGES@ || exit /b 1
.venv\Scripts\python -m pip install --quiet --disable-pip-version-check --no-index --find-links "%room%wheels" @SMOLLM2@ || exit /b 1
.venv\Scripts\python -m ch07 doctor
