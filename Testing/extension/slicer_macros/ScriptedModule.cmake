# slicerMacroBuildScriptedModule(NAME SCRIPTS [RESOURCES] [WITH_GENERIC_TESTS])
#
# Installs a scripted module into Slicer's folder of scripted modules. With generic tests, the module is also loaded
# without a main window.
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(ARG "WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule does not know ${ARG_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT "${ARG_NAME}.py" IN_LIST ARG_SCRIPTS)
    message(FATAL_ERROR "the scripted module ${ARG_NAME} needs ${ARG_NAME}.py among its scripts")
  endif()
  ctkMacroCompilePythonScript(
    TARGET_NAME ${ARG_NAME}
    SCRIPTS ${ARG_SCRIPTS}
    RESOURCES ${ARG_RESOURCES}
    DESTINATION_DIR ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}
    INSTALL_DIR ${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}
    NO_INSTALL_SUBDIR
    )
  if(BUILD_TESTING AND ARG_WITH_GENERIC_TESTS)
    slicer_add_python_unittest(
      SCRIPT qSlicer${ARG_NAME}ModuleGenericTest.py
      SLICER_ARGS --no-main-window --disable-cli-modules
      TESTNAME_PREFIX nomainwindow_
      )
  endif()
endfunction()

# slicer_add_python_unittest(SCRIPT [SLICER_ARGS] [TESTNAME_PREFIX])
#
# Registers a ctest that runs the unit tests of a script in Slicer.
function(slicer_add_python_unittest)
  cmake_parse_arguments(ARG "" "SCRIPT;TESTNAME_PREFIX" "SLICER_ARGS" ${ARGN})
  get_filename_component(name ${ARG_SCRIPT} NAME_WE)
  add_test(NAME py_${ARG_TESTNAME_PREFIX}${name}
    COMMAND ${Slicer_LAUNCHER_EXECUTABLE} --no-splash --ignore-slicerrc ${ARG_SLICER_ARGS} --python-code
    "import slicer.testing; slicer.testing.runUnitTest(['${CMAKE_CURRENT_BINARY_DIR}', '${CMAKE_CURRENT_SOURCE_DIR}'], '${name}')")
endfunction()
